// Changed pages by comparison, for kernels without PAGEMAP_SCAN: what is present in the memfd against what the extent header says.
// Pages that were never loaded are holes; they are unchanged (or were given back: the pager's removed bitmap tells those).
// Also pages of a process that are its own, of which the parent may say the same: what was put over a base, and what a checkpoint stored.
#include "torpor.h"

#include "export.h"
#include "extent_read.h"
#include "kernel_compat.h"
#include "memory_extent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (1ull << 20)

struct comparison {
    struct data_walk walk;  // of a memfd; all of a process's memory counts as data
    int memory;             // the memfd, or /proc/pid/mem
    uint64_t memory_offset; // of the guest's first byte in it
    const struct torpor_extent_header *header;
    const int32_t *sources;
    const uint8_t *candidates; // NULL: all pages
    uint64_t hint;
    unsigned char *present;
    unsigned char *expected;
    uint8_t *bitmap;
    int64_t pages;
};

static int is_candidate(const struct comparison *comparison, uint64_t offset) {
    const uint64_t page = offset / TORPOR_PAGE_SIZE;
    return !comparison->candidates || comparison->candidates[page / 8] >> (page % 8) & 1;
}

static int compare_chunk(struct comparison *comparison, uint64_t offset, uint64_t length) {
    int error = torpor_read_exactly(comparison->memory, comparison->present, length, comparison->memory_offset + offset);
    if (!error)
        error = torpor_extent_read(comparison->header, comparison->sources, &comparison->hint, comparison->expected, length,
                                   offset);
    if (error)
        return error;
    for (uint64_t at = 0; at < length; at += TORPOR_PAGE_SIZE) {
        if (!memcmp(comparison->present + at, comparison->expected + at, TORPOR_PAGE_SIZE))
            continue;
        const uint64_t page = (offset + at) / TORPOR_PAGE_SIZE;
        comparison->bitmap[page / 8] |= (uint8_t)(1u << (page % 8));
        comparison->pages++;
    }
    return 0;
}

// Bytes of candidates that follow each other from `offset` on, at most a chunk.
static uint64_t candidates_from(const struct comparison *comparison, uint64_t offset, uint64_t end) {
    uint64_t length = 0;
    while (offset + length < end && length < CHUNK && is_candidate(comparison, offset + length))
        length += TORPOR_PAGE_SIZE;
    return length;
}

static int compare_all(struct comparison *comparison, uint64_t size) {
    struct data_walk *walk = &comparison->walk;
    for (uint64_t offset = 0; offset < size;) {
        int error = data_walk_to(walk, offset);
        if (error)
            return error;
        if (offset < walk->start)
            offset = walk->start;
        while (offset < walk->end) {
            while (offset < walk->end && !is_candidate(comparison, offset))
                offset += TORPOR_PAGE_SIZE;
            const uint64_t length = candidates_from(comparison, offset, walk->end);
            error = !length ? 0 : compare_chunk(comparison, offset, length);
            if (error)
                return error;
            offset += length;
        }
    }
    return 0;
}

static int64_t compare(struct comparison *comparison, const void *header, uint64_t header_length, uint32_t source_count) {
    struct torpor_extent_header parsed;
    if (torpor_extent_header_parse(header, header_length, &parsed) != TORPOR_HEADER_OK)
        return -EBADMSG;
    const uint64_t size = comparison->walk.size;
    if (parsed.size_bytes != size || parsed.source_count != source_count)
        return -EINVAL;
    unsigned char *buffers = malloc(2 * CHUNK);
    if (!buffers)
        return -ENOMEM;
    comparison->header = &parsed;
    comparison->present = buffers;
    comparison->expected = buffers + CHUNK;
    const int error = compare_all(comparison, size);
    free(buffers);
    return error ? error : comparison->pages;
}

TORPOR_EXPORT int64_t torpor_compare_dirty(int memfd, uint64_t size, const void *header, uint64_t header_length,
                                           const int32_t *sources, uint32_t source_count, const uint8_t *candidates,
                                           uint8_t *bitmap) {
    struct comparison comparison = {.walk = {.fd = memfd, .size = size},
                                    .memory = memfd,
                                    .sources = sources,
                                    .candidates = candidates,
                                    .bitmap = bitmap};
    return compare(&comparison, header, header_length, source_count);
}

TORPOR_EXPORT int64_t torpor_compare_process(int pid, uint64_t address, uint64_t size, const void *header, uint64_t header_length,
                                             const int32_t *sources, uint32_t source_count, const uint8_t *candidates,
                                             uint8_t *bitmap) {
    if (!candidates)
        return -EINVAL;
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    struct comparison comparison = {.walk = {.fd = -1, .size = size, .end = size},
                                    .memory = open(path, O_RDONLY | O_CLOEXEC),
                                    .memory_offset = address,
                                    .sources = sources,
                                    .candidates = candidates,
                                    .bitmap = bitmap};
    if (comparison.memory < 0)
        return -errno;
    const int64_t pages = compare(&comparison, header, header_length, source_count);
    close(comparison.memory);
    return pages;
}
