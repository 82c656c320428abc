// Changed pages by comparison, for kernels without PAGEMAP_SCAN: what is present in the memfd against what the extent header says.
// Pages that were never loaded are holes; they are unchanged (or were given back: the pager's removed bitmap tells those).
#include "torpor.h"

#include "export.h"
#include "extent_read.h"
#include "kernel_compat.h"
#include "memory_extent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (1ull << 20)

struct comparison {
    int memfd;
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
    int error = torpor_read_exactly(comparison->memfd, comparison->present, length, offset);
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
    struct data_walk walk = {.fd = comparison->memfd, .size = size};
    for (uint64_t offset = 0; offset < size;) {
        int error = data_walk_to(&walk, offset);
        if (error)
            return error;
        if (offset < walk.start)
            offset = walk.start;
        while (offset < walk.end) {
            while (offset < walk.end && !is_candidate(comparison, offset))
                offset += TORPOR_PAGE_SIZE;
            const uint64_t length = candidates_from(comparison, offset, walk.end);
            error = !length ? 0 : compare_chunk(comparison, offset, length);
            if (error)
                return error;
            offset += length;
        }
    }
    return 0;
}

TORPOR_EXPORT int64_t torpor_compare_dirty(int memfd, uint64_t size, const void *header, uint64_t header_length,
                                           const int32_t *sources, uint32_t source_count, const uint8_t *candidates,
                                           uint8_t *bitmap) {
    struct torpor_extent_header parsed;
    if (torpor_extent_header_parse(header, header_length, &parsed) != TORPOR_HEADER_OK)
        return -EBADMSG;
    if (parsed.size_bytes != size || parsed.source_count != source_count)
        return -EINVAL;
    unsigned char *buffers = malloc(2 * CHUNK);
    if (!buffers)
        return -ENOMEM;
    struct comparison comparison = {memfd, &parsed, sources, candidates, 0, buffers, buffers + CHUNK, bitmap, 0};
    const int error = compare_all(&comparison, size);
    free(buffers);
    return error ? error : comparison.pages;
}
