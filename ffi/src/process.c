// Processes by pidfd, and their identity.
#include "torpor.h"

#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

TORPOR_EXPORT int torpor_pidfd_open(int pid) {
    const long fd = syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : (int)fd;
}

TORPOR_EXPORT int torpor_pidfd_signal(int pidfd, int signal) {
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) ? -errno : 0;
}

TORPOR_EXPORT int torpor_pidfd_get_descriptor(int pidfd, int number) {
    const long fd = syscall(SYS_pidfd_getfd, pidfd, number, 0);
    return fd < 0 ? -errno : (int)fd;
}

TORPOR_EXPORT int64_t torpor_process_start_time(int pid) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    const ssize_t length = read(fd, text, sizeof text - 1);
    const int error = errno;
    close(fd);
    if (length < 0)
        return -error;
    text[length] = 0;
    // The command name is in parentheses and may hold anything, so fields are counted from the last ')'.
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoll(at, NULL, 10) : -EBADMSG;
}
