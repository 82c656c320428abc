// Copies of sparse files: shared blocks where the file system has them (XFS, btrfs), else the data extents only.
#include "torpor.h"

#include "export.h"
#include "memory_extent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define BUFFER_BYTES (1ull << 20)

struct copy {
    int from;
    int to;
    int in_kernel; // copy_file_range still works for this pair of files
    unsigned char *buffer;
    struct torpor_copy_result *result;
};

// Bytes copied, 0 at the end of `from`, or -errno.
static int64_t copy_part(struct copy *copy, uint64_t offset, uint64_t length) {
    if (copy->in_kernel) {
        off_t in = (off_t)offset, out = (off_t)offset;
        const ssize_t copied = copy_file_range(copy->from, &in, copy->to, &out, length, 0);
        if (copied > 0)
            return copied;
        if (copied < 0 && errno != EXDEV && errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)
            return -errno;
        copy->in_kernel = 0; // 0 too: some file systems say so instead of refusing
    }
    const int64_t got = torpor_pread(copy->from, copy->buffer, length < BUFFER_BYTES ? length : BUFFER_BYTES, offset);
    return got <= 0 ? got : torpor_pwrite(copy->to, copy->buffer, (uint64_t)got, offset);
}

static int copy_data(struct copy *copy, uint64_t size) {
    struct data_walk walk = {.fd = copy->from, .size = size};
    for (uint64_t offset = 0; offset < size;) {
        const int error = data_walk_to(&walk, offset);
        if (error)
            return error;
        if (offset < walk.start) {
            offset = walk.start;
            continue;
        }
        const int64_t copied = copy_part(copy, offset, walk.end - offset);
        if (copied < 0)
            return (int)copied;
        if (!copied)
            return -ENODATA;
        copy->result->bytes_copied += (uint64_t)copied;
        offset += (uint64_t)copied;
    }
    return 0;
}

static int reflink_refused(int error) {
    return error == EOPNOTSUPP || error == EXDEV || error == EINVAL || error == ENOTTY || error == ENOSYS;
}

TORPOR_EXPORT int torpor_copy_sparse(int from, int to, uint64_t size, struct torpor_copy_result *result) {
    *result = (struct torpor_copy_result){0};
    if (ftruncate(to, 0))
        return -errno;
    if (!ioctl(to, FICLONE, from)) {
        result->reflink = 1;
        return ftruncate(to, (off_t)size) ? -errno : 0;
    }
    if (!reflink_refused(errno))
        return -errno;
    struct copy copy = {.from = from, .to = to, .in_kernel = 1, .buffer = malloc(BUFFER_BYTES), .result = result};
    if (!copy.buffer)
        return -ENOMEM;
    const int error = copy_data(&copy, size);
    free(copy.buffer);
    if (error)
        return error;
    return ftruncate(to, (off_t)size) ? -errno : 0;
}
