#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "mounts.h"
#include "reclaim.h"

// init keeps the writable disk's own mount out of the user's reach, and hands a descriptor of it to the agent: the overlay
// on it has no FITRIM.
#define WRITABLE_FD_VARIABLE "TORPOR_WRITABLE_FD"

static int write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    int error = write(fd, text, strlen(text)) < 0 ? errno : 0;
    close(fd);
    return error;
}

static int trim(int fd, void *context) {
    struct fstrim_range range = {.len = UINT64_MAX};
    if (ioctl(fd, FITRIM, &range)) return errno;
    *(uint64_t *)context += range.len;
    return 0;
}

// File systems that the user has mounted need not be able to.
static int trim_if_possible(int fd, void *context) {
    int error = trim(fd, context);
    return error == ENOTTY || error == EOPNOTSUPP || error == EROFS ? 0 : error;
}

int reclaim_descriptor(void) {
    const char *number = getenv(WRITABLE_FD_VARIABLE);
    return number ? atoi(number) : -1;
}

static int trim_all(uint64_t *bytes_trimmed) {
    int writable = reclaim_descriptor();
    int error = writable >= 0 ? trim(writable, bytes_trimmed) : ENODEV;
    int others = mounts_visit_writable(trim_if_possible, bytes_trimmed);
    return error ? error : others;
}

int reclaim_run(enum reclaim_step step, uint64_t *bytes_trimmed) {
    switch (step) {
        case RECLAIM_FSTRIM: return trim_all(bytes_trimmed);
        case RECLAIM_SYNC: return mounts_sync();
        case RECLAIM_DROP_CACHES: return write_text("/proc/sys/vm/drop_caches", "3");
        case RECLAIM_COMPACT_MEMORY: return write_text("/proc/sys/vm/compact_memory", "1");
        default: return EINVAL;
    }
}
