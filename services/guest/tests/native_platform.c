// The agent as a program of the machine under test: it speaks on an inherited descriptor (argv[1] is its number) or
// connects to a unix socket (argv[1] is its path), and leaves the machine's clock, entropy pool, identity, caches and disks
// alone. Variables of its environment tell what to do instead:
//   TORPOR_TEST_CGROUP    a cgroup (v2) for the user's processes
//   TORPOR_TEST_RECLAIM   a directory with a file per step ("0" to "3") that makes it "hang" or fail with an errno
//   TORPOR_TEST_IDENTITY  a file that gets the identity
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform.h"
#include "reclaim.h"

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) ? -1 : fd;
}

int platform_open_port(int argc, char **argv) {
    const char *port = argc > 1 ? argv[1] : "0";
    int fd = *port == '/' ? connect_to(port) : atoi(port);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        perror("torpor-agent-test: port");
        exit(2);
    }
    return fd;
}

bool platform_port_survives_hangup(void) { return false; }

const char *platform_user_cgroup(void) { return getenv("TORPOR_TEST_CGROUP"); }

static int write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    int error = write(fd, text, strlen(text)) < 0 ? errno : 0;
    close(fd);
    return error;
}

pid_t platform_fork_user_process(void) {
    pid_t pid = fork();
    const char *cgroup = platform_user_cgroup();
    if (pid == 0 && cgroup) {
        char path[512];
        snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
        if (write_text(path, "0")) _exit(1);
    }
    return pid;
}

int platform_set_identity(const char *hostname, const char *machine_id, const char *generation) {
    char text[256];
    snprintf(text, sizeof text, "%s %s %s\n", hostname, machine_id, generation);
    const char *path = getenv("TORPOR_TEST_IDENTITY");
    return path ? write_text(path, text) : EROFS;
}

int reclaim_descriptor(void) { return -1; }

int reclaim_run(enum reclaim_step step, uint64_t *bytes_trimmed) {
    char path[512], text[16] = "";
    const char *directory = getenv("TORPOR_TEST_RECLAIM");
    snprintf(path, sizeof path, "%s/%d", directory ? directory : "/nonexistent", (int)step);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t length = read(fd, text, sizeof text - 1);
        close(fd);
        if (length < 0) return errno;
    }
    while (strcmp(text, "hang") == 0) pause();
    if (step == RECLAIM_FSTRIM) *bytes_trimmed = 4096;
    return atoi(text);
}

int platform_set_realtime(int64_t unix_ns) { return unix_ns > 0 ? 0 : EINVAL; }

int platform_add_entropy(const uint8_t *bytes, uint32_t length) {
    (void)bytes, (void)length;
    return 0;
}
