// Puts pages over a base that a stopped VMM maps privately: what its sandbox had changed before it was paused
// (docs/decisions/0015-resumed-siblings.md).
//
// UFFDIO_COPY gives a private mapping a page of its own also where the file has one, as long as nothing is mapped there yet. A page
// that the VMM has mapped already, by touching it or a neighbour, is written through /proc/pid/mem, which copies it first, as a write
// of its own would.
#include "torpor.h"

#include "export.h"
#include "extent_read.h"
#include "kernel_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (1ull << 20)

struct put {
    const struct torpor_put_target *target;
    struct torpor_extent_header header;
    const int32_t *sources;
    uint64_t hint;
    int memory; // /proc/pid/mem
    unsigned char *buffer;
};

// Returns the bytes installed or a negative errno.
static int64_t install_once(const struct put *put, const unsigned char *from, uint64_t offset, uint64_t length) {
    const uint64_t address = put->target->address + offset;
    if (!from) {
        struct uffdio_zeropage zero = {.range = {address, length}};
        return ioctl(put->target->uffd, UFFDIO_ZEROPAGE, &zero) ? (zero.zeropage ? zero.zeropage : -errno) : (int64_t)length;
    }
    struct uffdio_copy copy = {.dst = address, .src = (uintptr_t)from, .len = length};
    return ioctl(put->target->uffd, UFFDIO_COPY, &copy) ? (copy.copy ? copy.copy : -errno) : (int64_t)length;
}

static int overwrite(const struct put *put, const unsigned char *from, uint64_t offset) {
    static const unsigned char zero[TORPOR_PAGE_SIZE];
    const int64_t put_bytes = torpor_pwrite(put->memory, from ? from : zero, TORPOR_PAGE_SIZE, put->target->address + offset);
    return put_bytes < 0 ? (int)put_bytes : 0;
}

// `from` NULL: zeros.
static int install(const struct put *put, const unsigned char *from, uint64_t offset, uint64_t length) {
    while (length) {
        int64_t step = install_once(put, from, offset, length);
        if (step == -EAGAIN)
            continue;
        if (step == -EEXIST) {
            const int error = overwrite(put, from, offset);
            step = error ? error : (int64_t)TORPOR_PAGE_SIZE;
        }
        if (step <= 0)
            return step ? (int)step : -EIO;
        from = from ? from + step : NULL;
        offset += (uint64_t)step;
        length -= (uint64_t)step;
    }
    return 0;
}

// [offset, offset + length): in parts that are all zero by the table, or all data.
static int put_range(struct put *put, uint64_t offset, uint64_t length) {
    while (length) {
        put->hint = torpor_extent_find(&put->header, offset, put->hint);
        const struct torpor_extent *extent = &put->header.extents[put->hint];
        const uint64_t rest = extent->offset + extent->length - offset;
        uint64_t part = length < rest ? length : rest;
        const bool zero = extent->source == TORPOR_SOURCE_ZERO;
        if (!zero && part > CHUNK)
            part = CHUNK;
        int error = zero ? 0 : torpor_read_exactly(put->sources[extent->source], put->buffer, part,
                                                   extent->source_offset + offset - extent->offset);
        if (!error)
            error = install(put, zero ? NULL : put->buffer, offset, part);
        if (error)
            return error;
        offset += part;
        length -= part;
    }
    return 0;
}

static bool is_set(const uint8_t *bitmap, uint64_t page) {
    return bitmap[page / 8] >> (page % 8) & 1;
}

static int64_t put_all(struct put *put, const uint8_t *bitmap) {
    const uint64_t pages = put->target->size / TORPOR_PAGE_SIZE;
    int64_t count = 0;
    for (uint64_t page = 0; page < pages; page++) {
        const uint64_t first = page;
        while (page < pages && is_set(bitmap, page))
            page++;
        const int error = put_range(put, first * TORPOR_PAGE_SIZE, (page - first) * TORPOR_PAGE_SIZE);
        if (error)
            return error;
        count += (int64_t)(page - first);
    }
    return count;
}

TORPOR_EXPORT int64_t torpor_put_pages(const struct torpor_put_target *target, const void *header, const int32_t *sources,
                                       const uint8_t *bitmap) {
    struct put put = {.target = target, .sources = sources};
    if (torpor_extent_header_parse(header, target->header_length, &put.header) != TORPOR_HEADER_OK)
        return -EBADMSG;
    if (put.header.size_bytes != target->size || put.header.source_count != target->source_count)
        return -EINVAL;
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", target->pid);
    put.memory = open(path, O_RDWR | O_CLOEXEC);
    if (put.memory < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    put.buffer = aligned_alloc(TORPOR_PAGE_SIZE, CHUNK);
    const int64_t count = put.buffer ? put_all(&put, bitmap) : -ENOMEM;
    free(put.buffer);
    close(put.memory);
    return count;
}
