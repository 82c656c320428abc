// Dropping capabilities of a process that has threads already: each thread has its own, and only itself can drop them. As glibc does
// for setuid, each is interrupted by a signal whose handler does it.
#include "torpor.h"

#include "export.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 2000
#define ROUND_NS 1000000
#define CAPABILITY_COUNT 64

static _Atomic uint64_t kept;

static int drop_own(uint64_t keep) {
    for (unsigned long capability = 0; capability < CAPABILITY_COUNT; capability++)
        if (!(keep >> capability & 1) && prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1 &&
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
            return -errno;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, data))
        return -errno;
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        data[i].effective &= (uint32_t)(keep >> 32 * i);
        data[i].permitted &= (uint32_t)(keep >> 32 * i);
        data[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, data) ? -errno : 0;
}

static void on_signal(int signal) {
    (void)signal;
    const int saved = errno;
    (void)drop_own(atomic_load(&kept)); // whoever has sent it looks at what came of it
    errno = saved;
}

static bool has_more(const char *status, const char *name, uint64_t keep) {
    const char *at = strstr(status, name);
    return !at || strtoull(at + strlen(name), NULL, 16) & ~keep;
}

// 1: the thread has more than `keep`; 0: it has not, or has ended.
static int is_unchanged(const char *thread, uint64_t keep) {
    char path[64], status[4096];
    snprintf(path, sizeof path, "/proc/self/task/%.20s/status", thread);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    const ssize_t length = read(fd, status, sizeof status - 1);
    close(fd);
    if (length <= 0)
        return 0;
    status[length] = 0;
    return has_more(status, "\nCapBnd:", keep) || has_more(status, "\nCapPrm:", keep);
}

// Signals the threads that have more than `keep`; returns how many.
static int interrupt_all(DIR *tasks, int signal, uint64_t keep) {
    int count = 0;
    rewinddir(tasks);
    for (struct dirent *entry; (entry = readdir(tasks));) {
        if (*entry->d_name < '0' || *entry->d_name > '9' || !is_unchanged(entry->d_name, keep))
            continue;
        count++;
        (void)syscall(SYS_tgkill, getpid(), atoi(entry->d_name), signal);
    }
    return count;
}

TORPOR_EXPORT int torpor_keep_capabilities(uint64_t keep) {
    const int signal = SIGRTMAX - 2;
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    const int error = drop_own(keep);
    if (error)
        return error;
    atomic_store(&kept, keep);
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return -errno;
    // For good: a slow thread may get the signal of an earlier round (they queue) when it has changed already.
    sigaction(signal, &action, NULL);
    int left = 1;
    for (int round = 0; left && round < ROUNDS; round++) {
        left = interrupt_all(tasks, signal, keep);
        if (left)
            nanosleep(&(struct timespec){0, ROUND_NS}, NULL);
    }
    closedir(tasks);
    return left ? -ETIMEDOUT : 0;
}
