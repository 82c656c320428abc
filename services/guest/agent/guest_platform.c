#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "platform.h"

#define PORT_NAME "torpor.agent.0"
#define PORTS_DIRECTORY "/sys/class/virtio-ports"
#define USER_CGROUP "/sys/fs/cgroup/user"

static bool write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return written;
}

static bool port_is_ours(const char *device) {
    char path[512], name[64] = "";
    snprintf(path, sizeof path, PORTS_DIRECTORY "/%s/name", device);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t length = read(fd, name, sizeof name - 1);
    close(fd);
    if (length <= 0) return false;
    name[strcspn(name, "\n")] = 0;
    return strcmp(name, PORT_NAME) == 0;
}

static int try_open_port(void) {
    DIR *directory = opendir(PORTS_DIRECTORY);
    if (!directory) return -1;
    int fd = -1;
    for (struct dirent *entry; fd < 0 && (entry = readdir(directory)) != NULL;) {
        char path[512];
        if (entry->d_name[0] == '.' || !port_is_ours(entry->d_name)) continue;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    }
    closedir(directory);
    return fd;
}

int platform_open_port(int argc, char **argv) {
    (void)argc, (void)argv;
    // Executed through a descriptor, the program would be called by its number.
    prctl(PR_SET_NAME, "torpor-agent");
    if (!write_text("/proc/self/oom_score_adj", "-1000")) perror("torpor-agent: oom_score_adj");
    // The port's name appears a moment after its driver: sysfs tells nobody, so it is looked at again.
    for (;;) {
        int fd = try_open_port();
        if (fd >= 0) return fd;
        struct timespec pause = {.tv_nsec = 2000000};
        nanosleep(&pause, NULL);
    }
}

bool platform_port_survives_hangup(void) { return true; }

const char *platform_user_cgroup(void) { return USER_CGROUP; }

// A child that is born in its cgroup need not be moved there: a move waits for an RCU grace period, tens of
// milliseconds on a single vCPU. -1 where that is not possible, with errno.
static pid_t fork_into_user_cgroup(void) {
    static int cgroup = -1;
    if (cgroup < 0) cgroup = open(USER_CGROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cgroup < 0) return -1;
    struct clone_args arguments = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup};
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

pid_t platform_fork_user_process(void) {
    pid_t pid = fork_into_user_cgroup();
    if (pid < 0) {
        // The user's processes have used up their cgroup's pids, which a move ignores; or there is no cgroup (a kernel
        // without it), and the process runs unconfined.
        pid = fork();
        if (pid == 0) write_text(USER_CGROUP "/cgroup.procs", "0");
    }
    if (pid == 0) write_text("/proc/self/oom_score_adj", "0");
    return pid;
}

int platform_set_realtime(int64_t unix_ns) {
    struct timespec now = {.tv_sec = unix_ns / 1000000000, .tv_nsec = unix_ns % 1000000000};
    return clock_settime(CLOCK_REALTIME, &now) ? errno : 0;
}

int platform_add_entropy(const uint8_t *bytes, uint32_t length) {
    int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    struct rand_pool_info *pool = malloc(sizeof *pool + length);
    int error = pool ? 0 : ENOMEM;
    if (pool) {
        pool->entropy_count = (int)length * 8;
        pool->buf_size = (int)length;
        memcpy(pool->buf, bytes, length);
        if (ioctl(fd, RNDADDENTROPY, pool) || ioctl(fd, RNDRESEEDCRNG)) error = errno;
        free(pool);
    }
    close(fd);
    return error;
}
