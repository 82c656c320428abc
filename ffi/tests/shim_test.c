// The memory shim in a real process.
#include "rig.h"
#include "test.h"
#include "torpor.h"

#include <signal.h>
#include <unistd.h>

#define PAGE 4096ull
#define SIZE (64 * PAGE)

TEST(shim_hides_itself_from_children) {
    struct rig rig = start_rig(make_snapshot(50, 64, 1, 8), &(struct rig_options){0});
    CHECK_EQ(tell(&rig, VMM_ENVIRONMENT, 0, 0, 0), 0);
    CHECK_EQ(tell(&rig, VMM_FORK, 5 * PAGE, 0, 0), SIGSEGV); // not mapped there: no hole can be filled behind the pager's back
    check_memory(&rig, 2);
    stop_rig(&rig);
}

// Runs the stand-in with these settings until it ends; it has nobody to talk to.
static int run_with(int memfd, uint64_t mapped, const char *inode, const char *device, const char *size, const char *userfaultfd,
                    const char *socket) {
    char preload[600], mapped_text[32], settings[5][64];
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", built_file("torpor-shim.so"));
    snprintf(mapped_text, sizeof mapped_text, "%lu", mapped);
    const char *const names[] = {"MEMFD_INO", "MEMFD_DEV", "SIZE", "UFFD_DEVICE_FD", "SOCKET_FD"};
    const char *const values[] = {inode, device, size, userfaultfd, socket};
    const char *environment[7] = {preload};
    int count = 1;
    for (int i = 0; i < 5; i++) {
        if (!values[i])
            continue;
        snprintf(settings[i], sizeof settings[i], "TORPOR_SHIM_%s=%s", names[i], values[i]);
        environment[count++] = settings[i];
    }
    int sockets[2], pidfd;
    CHECK_EQ(torpor_socket_pair(sockets), 0);
    const int uffd_device = torpor_open_userfaultfd_device(), result = torpor_memfd_create("result", mapped);
    const int32_t descriptors[] = {3, memfd, 4, result, 6, sockets[0], 7, uffd_device};
    const char *arguments[] = {"vmm", "run", "3", "4", mapped_text, "5", NULL};
    start_process(built_file("tests/vmm"), arguments, environment, descriptors, 4, 0, &pidfd);
    const int status = wait_end(pidfd);
    close(sockets[0]);
    close(sockets[1]);
    close(uffd_device);
    close(result);
    return status;
}

TEST(shim_fails_loudly_when_something_is_wrong) {
    const int memfd = torpor_memfd_create("guest", SIZE);
    uint64_t identity[2];
    CHECK_EQ(torpor_identity(memfd, identity), 0);
    char inode[32], device[32];
    snprintf(inode, sizeof inode, "%lu", identity[1]);
    snprintf(device, sizeof device, "%lu", identity[0]);
    CHECK_EQ(run_with(memfd, SIZE, inode, device, "262144", "7", "6"), 0); // all is right: ends as nobody commands it
    CHECK_EQ(run_with(memfd, SIZE, inode, device, "262144", "99", "6"), 97);
    CHECK_EQ(run_with(memfd, SIZE, inode, device, "262144", "6", "6"), 97); // no userfaultfd device
    CHECK_EQ(run_with(memfd, SIZE, inode, device, "262144", "7", "99"), 97);
    CHECK_EQ(run_with(memfd, SIZE, inode, device, "262144", "7", "7"), 97); // no socket
    CHECK_EQ(run_with(memfd, SIZE, inode, device, "262145", "7", "6"), 97);
    CHECK_EQ(run_with(memfd, SIZE, inode, device, NULL, "7", "6"), 97);
    CHECK_EQ(run_with(memfd, SIZE, "x", device, "262144", "7", "6"), 97);
    CHECK_EQ(run_with(memfd, SIZE / 2, inode, device, "262144", "7", "6"), 97); // maps only a part
}

TEST(shim_leaves_other_files_alone) {
    const int memfd = torpor_memfd_create("guest", SIZE);
    uint64_t identity[2];
    CHECK_EQ(torpor_identity(memfd, identity), 0);
    char inode[32], device[32], other_device[32];
    snprintf(inode, sizeof inode, "%lu", identity[1]);
    snprintf(device, sizeof device, "%lu", identity[0]);
    snprintf(other_device, sizeof other_device, "%lu", identity[0] + 1);
    CHECK_EQ(run_with(memfd, SIZE / 2, inode, other_device, "262144", "7", "6"), 0); // same number on another file system
    CHECK_EQ(run_with(memfd, SIZE / 2, "999999999", device, "262144", "7", "6"), 0);
    CHECK_EQ(run_with(memfd, SIZE / 2, NULL, NULL, NULL, NULL, NULL), 0);
}
