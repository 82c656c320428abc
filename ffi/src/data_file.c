// The data files of snapshots: copying parts of them together, their checksum, and the exchange of two directories.
#include "torpor.h"

#include "crc32c.h"
#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BUFFER_BYTES (1ull << 20)

struct range_copy {
    int to;
    int in_kernel; // copy_file_range works for these files; it shares blocks where the file system can
    unsigned char *buffer;
    uint64_t *bytes_copied;
};

// Bytes copied, or -errno; -ENODATA at the end of `from`.
static int64_t copy_part(struct range_copy *copy, int from, uint64_t offset, uint64_t target, uint64_t length) {
    if (copy->in_kernel) {
        off_t in = (off_t)offset, out = (off_t)target;
        const ssize_t copied = copy_file_range(from, &in, copy->to, &out, length, 0);
        if (copied > 0)
            return copied;
        if (copied < 0 && errno != EXDEV && errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)
            return -errno;
        copy->in_kernel = 0; // 0 too: some file systems say so instead of refusing
    }
    const int64_t got = torpor_pread(from, copy->buffer, length < BUFFER_BYTES ? length : BUFFER_BYTES, offset);
    if (got <= 0)
        return got ? got : -ENODATA;
    return torpor_pwrite(copy->to, copy->buffer, (uint64_t)got, target);
}

static int copy_range(struct range_copy *copy, int from, const struct torpor_copy_range *range) {
    for (uint64_t done = 0; done < range->length;) {
        const int64_t copied = copy_part(copy, from, range->source_offset + done, range->target_offset + done, range->length - done);
        if (copied < 0)
            return (int)copied;
        done += (uint64_t)copied;
        *copy->bytes_copied += (uint64_t)copied;
    }
    return 0;
}

TORPOR_EXPORT int torpor_copy_ranges(const int32_t *sources, uint32_t source_count, const struct torpor_copy_range *ranges,
                                     uint64_t range_count, int to, uint64_t *bytes_copied) {
    *bytes_copied = 0;
    struct range_copy copy = {.to = to, .in_kernel = 1, .buffer = malloc(BUFFER_BYTES), .bytes_copied = bytes_copied};
    if (!copy.buffer)
        return -ENOMEM;
    int error = 0;
    for (uint64_t i = 0; !error && i < range_count; i++)
        error = ranges[i].source < source_count ? copy_range(&copy, sources[ranges[i].source], &ranges[i]) : -EINVAL;
    free(copy.buffer);
    return error;
}

TORPOR_EXPORT int64_t torpor_file_crc32c(int fd, uint64_t length) {
    unsigned char *buffer = malloc(BUFFER_BYTES);
    if (!buffer)
        return -ENOMEM;
    uint32_t crc = 0;
    int64_t got = 1;
    for (uint64_t at = 0; at < length; at += (uint64_t)got) {
        got = torpor_pread(fd, buffer, length - at < BUFFER_BYTES ? length - at : BUFFER_BYTES, at);
        if (got <= 0)
            break;
        crc = torpor_crc32c(crc, buffer, (uint64_t)got);
    }
    free(buffer);
    return got < 0 ? got : got ? (int64_t)crc : -ENODATA;
}

TORPOR_EXPORT int torpor_exchange(const char *one, const char *other) {
    return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) ? -errno : 0;
}
