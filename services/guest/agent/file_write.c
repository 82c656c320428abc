#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "files.h"

struct target {
    char path[MAX_PATH_BYTES];
    char temporary[MAX_PATH_BYTES];
    mode_t mode;
};

// Finds what the path names now. A symbolic link is written through: renaming over it would replace the link itself.
static int inspect_target(struct target *target, uint32_t requested_mode) {
    target->mode = requested_mode ? requested_mode & 07777 : 0644;
    char real[PATH_MAX];
    struct stat status;
    if (stat(target->path, &status)) return errno == ENOENT ? 0 : errno;
    if (S_ISDIR(status.st_mode)) return EISDIR;
    // Renaming over a device or a FIFO would replace it by a file.
    if (!S_ISREG(status.st_mode)) return EINVAL;
    if (!requested_mode) target->mode = status.st_mode & 07777;
    if (!realpath(target->path, real)) return errno;
    if (strlen(real) >= sizeof target->path) return ENAMETOOLONG;
    strcpy(target->path, real);
    return 0;
}

static int make_parents(const struct target *target) {
    char parent[MAX_PATH_BYTES];
    strcpy(parent, target->path);
    char *slash = strrchr(parent, '/');
    if (slash == parent) return 0;
    *slash = 0;
    return file_make_directories(parent);
}

static int open_temporary(struct target *target) {
    const char *slash = strrchr(target->path, '/');
    for (int attempt = 0; attempt < 100; attempt++) {
        unsigned long unique = (unsigned long)clock_monotonic_ns() ^ ((unsigned long)getpid() << 40);
        // The name does not contain the target's, which may already have the greatest length allowed.
        int length = snprintf(target->temporary, sizeof target->temporary, "%.*s/.torpor-%lx", (int)(slash - target->path),
                              target->path, unique);
        if (length >= (int)sizeof target->temporary) {
            errno = ENAMETOOLONG;
            return -1;
        }
        int fd = open(target->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

static int write_all(int fd, const uint8_t *data, size_t length) {
    while (length > 0) {
        ssize_t written = write(fd, data, length);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return errno;
        data += written;
        length -= (size_t)written;
    }
    return 0;
}

static int receive_content(struct worker_output *output, int fd) {
    static struct worker_chunk chunk;
    for (;;) {
        if (!worker_receive(output, &chunk)) return ECANCELED;
        int error = write_all(fd, chunk.data, chunk.length);
        if (error || chunk.eof) return error;
    }
}

int file_write(struct worker_output *output, const struct account *account, const void *request) {
    const Guest__V1__WriteFile *write_file = request;
    static struct target target;
    int error = file_resolve(account, write_file->path, target.path);
    if (!error) error = inspect_target(&target, write_file->mode);
    if (!error) error = make_parents(&target);
    if (error) return error;
    int fd = open_temporary(&target);
    if (fd < 0) return errno;
    error = receive_content(output, fd);
    if (!error && fchmod(fd, target.mode)) error = errno;
    // Some file systems report a failed write only here.
    if (close(fd) && !error) error = errno;
    if (!error && rename(target.temporary, target.path)) error = errno;
    if (error) {
        unlink(target.temporary);
        return error;
    }
    return file_send_entry(output, target.path);
}
