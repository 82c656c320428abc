#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform.h"

#define RUN_DIRECTORY "/run/torpor"

// In place, not by a new file: who watches or holds it open sees the change.
static int write_line(const char *path, const char *text) {
    char line[128];
    int length = snprintf(line, sizeof line, "%s\n", text);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
    if (fd < 0) return errno;
    int error = pwrite(fd, line, (size_t)length, 0) == length && ftruncate(fd, length) == 0 ? 0 : errno;
    close(fd);
    return error;
}

int platform_set_identity(const char *hostname, const char *machine_id, const char *generation) {
    if (sethostname(hostname, strlen(hostname))) return errno;
    int error = write_line("/etc/machine-id", machine_id);
    if (error) return error;
    if (mkdir(RUN_DIRECTORY, 0755) && errno != EEXIST) return errno;
    // Last, so that who is woken by it finds the rest done.
    return write_line(RUN_DIRECTORY "/generation", generation);
}
