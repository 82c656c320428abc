// Descriptors over sockets, tap devices, the clock.
#include "descriptor_passing.h"
#include "test.h"
#include "torpor.h"

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

static int open_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

TEST(descriptors_arrive_as_the_same_files) {
    int pair[2], received[TORPOR_MAX_PASSED_DESCRIPTORS];
    uint32_t count;
    char data[16];
    CHECK_EQ(torpor_socket_pair(pair), 0);
    const int sent[] = {torpor_memfd_create("a", 4096), torpor_memfd_create("b", 8192), pair[0]};
    CHECK_EQ(torpor_send_descriptors(pair[0], "hello", 5, sent, 3), 0);
    for (int peek = 1; peek >= 0; peek--) { // peeking leaves the message where it is
        CHECK_EQ(torpor_receive_descriptors(pair[1], data, sizeof data, received, &count, -1, peek), 5);
        CHECK(!memcmp(data, "hello", 5));
        CHECK_EQ(count, 3);
        for (int i = 0; i < 3; i++) {
            struct stat a, b;
            CHECK(!fstat(sent[i], &a) && !fstat(received[i], &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev);
            CHECK_EQ(fcntl(received[i], F_GETFD), FD_CLOEXEC);
            close(received[i]);
        }
    }
    CHECK_EQ(torpor_receive_descriptors(pair[1], data, sizeof data, received, &count, 0, 0), -ETIMEDOUT);
    close(pair[0]);
    CHECK_EQ(torpor_receive_descriptors(pair[1], data, sizeof data, received, &count, -1, 0), 0);
    CHECK_EQ(torpor_send_descriptors(pair[1], "x", 1, NULL, 0), -EPIPE);
    CHECK_EQ(torpor_send_descriptors(pair[1], "x", 0, NULL, 0), -EINVAL);
}

TEST(too_many_descriptors_are_closed_not_leaked) {
    int pair[2], received[TORPOR_MAX_PASSED_DESCRIPTORS];
    uint32_t count;
    char data[16];
    CHECK_EQ(torpor_socket_pair(pair), 0);
    const int fds[40] = {0};
    struct iovec vector = {.iov_base = "x", .iov_len = 1};
    union {
        char bytes[CMSG_SPACE(sizeof fds)];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(rights), fds, sizeof fds);
    CHECK_EQ(sendmsg(pair[0], &message, 0), 1);
    const int before = open_descriptors();
    CHECK_EQ(torpor_receive_descriptors(pair[1], data, sizeof data, received, &count, -1, 0), -EMSGSIZE);
    CHECK_EQ(count, 0);
    CHECK_EQ(open_descriptors(), before);
}

TEST(unix_connect_reaches_a_listener_and_refuses_long_paths) {
    char directory[] = "/tmp/torpor-socket-XXXXXX", path[64], long_path[200] = {0};
    CHECK(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/s", directory);
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    CHECK_EQ(torpor_unix_connect(path), -ENOENT);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(torpor_unix_connect(path), -ECONNREFUSED);
    CHECK_EQ(listen(listener, 1), 0);
    const int fd = torpor_unix_connect(path);
    CHECK(fd >= 0);
    memset(long_path, 'a', 108);
    CHECK_EQ(torpor_unix_connect(long_path), -ENAMETOOLONG);
    close(fd);
    close(listener);
    unlink(path);
    rmdir(directory);
}

TEST(memfd_is_sealed_and_sparse) {
    const int fd = torpor_memfd_create("sealed", 1 << 20);
    CHECK_EQ(torpor_size_bytes(fd), 1 << 20);
    CHECK_EQ(torpor_allocated_bytes(fd), 0);
    CHECK(ftruncate(fd, 4096) && errno == EPERM);
    CHECK(ftruncate(fd, 2 << 20) && errno == EPERM);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    char byte = 1;
    CHECK_EQ(torpor_pread(fd, &byte, 1, 5000), 1);
    CHECK_EQ(byte, 0);
    CHECK_EQ(torpor_allocated_bytes(fd), 0);
    close(fd);
}

TEST(open_maps_its_flags) {
    char directory[] = "/tmp/torpor-open-XXXXXX", path[64];
    CHECK(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/f", directory);
    CHECK_EQ(torpor_open(path, 0, 0), -EINVAL);
    CHECK_EQ(torpor_open(path, TORPOR_OPEN_READ, 0), -ENOENT);
    const int fd = torpor_open(path, TORPOR_OPEN_WRITE | TORPOR_OPEN_CREATE | TORPOR_OPEN_EXCLUSIVE, 0640);
    CHECK(fd >= 0);
    CHECK_EQ(torpor_pwrite(fd, "abc", 3, 0), 3);
    CHECK_EQ(torpor_fsync(fd), 0);
    CHECK_EQ(torpor_fsync_path(directory), 0);
    CHECK_EQ(torpor_open(path, TORPOR_OPEN_WRITE | TORPOR_OPEN_CREATE | TORPOR_OPEN_EXCLUSIVE, 0640), -EEXIST);
    CHECK_EQ(torpor_open(path, TORPOR_OPEN_READ | TORPOR_OPEN_DIRECTORY, 0), -ENOTDIR);
    close(torpor_open(path, TORPOR_OPEN_WRITE | TORPOR_OPEN_TRUNCATE, 0));
    CHECK_EQ(torpor_size_bytes(fd), 0);
    close(fd);
    unlink(path);
    rmdir(directory);
}

// The tap exists in the namespace that was asked for and nowhere else, and this thread did not move.
TEST(tap_is_opened_in_another_network_namespace) {
    char directory[] = "/tmp/torpor-netns-XXXXXX", path[64];
    struct stat before, after;
    CHECK(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/ns", directory);
    CHECK_EQ(unshare(CLONE_NEWNS | CLONE_NEWNET), 0);
    CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    close(open(path, O_CREAT | O_RDONLY | O_CLOEXEC, 0600));
    CHECK_EQ(mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL), 0); // the namespace with the tap
    CHECK_EQ(unshare(CLONE_NEWNET), 0);                                 // the one that we stay in
    CHECK_EQ(stat("/proc/thread-self/ns/net", &before), 0);
    const int tap = torpor_open_tap("tap7", path);
    CHECK(tap >= 0);
    CHECK_EQ(stat("/proc/thread-self/ns/net", &after), 0);
    CHECK_EQ(before.st_ino, after.st_ino);
    CHECK_EQ(if_nametoindex("tap7"), 0);
    CHECK_EQ(torpor_open_tap("tap7", path), -EBUSY); // it is there
    const int here = torpor_open_tap("tap8", NULL);
    CHECK(here >= 0 && if_nametoindex("tap8") > 0);
    close(here);
    CHECK_EQ(torpor_open_tap("a-name-that-is-too-long", path), -EINVAL);
    CHECK_EQ(torpor_open_tap("tap9", "/no/such/namespace"), -ENOENT);
    CHECK_EQ(torpor_network_setting("ipv4/conf/tap7/forwarding", "1", path), 0); // a device of there
    CHECK_EQ(torpor_network_setting("ipv4/conf/tap7/forwarding", "1", NULL), -ENOENT);
    CHECK_EQ(torpor_network_setting("../kernel/hostname", "x", path), -EINVAL);
    CHECK_EQ(mount("/proc/sys", "/proc/sys", NULL, MS_BIND, NULL), 0); // as in a container
    CHECK_EQ(mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
    CHECK_EQ(open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC), -1);
    CHECK_EQ(torpor_network_setting("ipv4/conf/tap7/forwarding", "0", path), 0);
    CHECK_EQ(umount("/proc/sys"), 0);
    char other[32];
    const int namespace = torpor_new_network_namespace();
    CHECK(namespace >= 0);
    snprintf(other, sizeof other, "/proc/self/fd/%d", namespace);
    CHECK_EQ(torpor_network_setting("ipv4/conf/tap7/forwarding", "1", other), -ENOENT);
    const int numbered = torpor_open_tap("tap%d", other);
    CHECK(numbered >= 0);
    CHECK_EQ(torpor_network_setting("ipv4/conf/tap0/forwarding", "1", other), 0);
    close(numbered);
    close(namespace);
    close(tap);
    CHECK_EQ(umount(path), 0);
    unlink(path);
    rmdir(directory);
}

TEST(tsc_frequency_agrees_with_a_longer_measurement) {
    const int64_t khz = torpor_tsc_khz();
    struct timespec first, last;
    clock_gettime(CLOCK_MONOTONIC_RAW, &first);
    const uint64_t from = __rdtsc();
    do
        clock_gettime(CLOCK_MONOTONIC_RAW, &last);
    while ((last.tv_sec - first.tv_sec) * 1000000000l + last.tv_nsec - first.tv_nsec < 200000000l);
    const double ns = (double)(last.tv_sec - first.tv_sec) * 1e9 + (double)(last.tv_nsec - first.tv_nsec);
    const double measured = (double)(__rdtsc() - from) * 1e6 / ns;
    CHECK((double)khz > measured * 0.999 && (double)khz < measured * 1.001);
    CHECK_EQ(torpor_tsc_khz(), khz);
}
