// What of a disk differs from another snapshot's disk.
// Both are read with pread; where neither has data nothing is read, so that the time follows the data and not the size.
#include "torpor.h"

#include "crc32c.h"
#include "export.h"
#include "extent_read.h"
#include "kernel_compat.h"
#include "memory_extent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (1ull << 20)

struct disk_diff {
    struct data_walk walk;
    const struct torpor_extent_header *header;
    const int32_t *sources;
    uint64_t hint;
    int output;
    unsigned char *present;
    unsigned char *expected;
    uint64_t run_capacity;
    struct torpor_export_result *result;
};

static int add_run(struct torpor_export_result *result, uint64_t *capacity, struct torpor_run run) {
    struct torpor_run *last = result->run_count ? &result->runs[result->run_count - 1] : NULL;
    *(run.kind == TORPOR_RUN_DATA ? &result->data_pages : &result->zero_pages) += run.page_count;
    if (last && last->kind == run.kind && last->page_index + last->page_count == run.page_index &&
        (run.kind == TORPOR_RUN_ZERO || last->output_offset + last->page_count * TORPOR_PAGE_SIZE == run.output_offset)) {
        last->page_count += run.page_count;
        return 0;
    }
    if (result->run_count == *capacity) {
        const uint64_t larger = *capacity ? 2 * *capacity : 1024;
        struct torpor_run *runs = reallocarray(result->runs, larger, sizeof *runs);
        if (!runs)
            return -ENOMEM;
        result->runs = runs;
        *capacity = larger;
    }
    result->runs[result->run_count++] = run;
    return 0;
}

static int store_page(struct disk_diff *diff, uint64_t page, const unsigned char *bytes) {
    static const unsigned char zero[TORPOR_PAGE_SIZE];
    struct torpor_export_result *result = diff->result;
    if (!memcmp(bytes, zero, sizeof zero))
        return add_run(result, &diff->run_capacity, (struct torpor_run){page, 1, TORPOR_RUN_ZERO, 0});
    const int error = add_run(result, &diff->run_capacity, (struct torpor_run){page, 1, TORPOR_RUN_DATA, result->bytes_written});
    if (error)
        return error;
    const int64_t put = torpor_pwrite(diff->output, bytes, TORPOR_PAGE_SIZE, result->bytes_written);
    if (put < 0)
        return (int)put;
    result->crc32c = torpor_crc32c((uint32_t)result->crc32c, bytes, TORPOR_PAGE_SIZE);
    result->bytes_written += TORPOR_PAGE_SIZE;
    return 0;
}

static int diff_chunk(struct disk_diff *diff, uint64_t offset, uint64_t length) {
    int error = torpor_read_exactly(diff->walk.fd, diff->present, length, offset);
    if (!error)
        error = torpor_extent_read(diff->header, diff->sources, &diff->hint, diff->expected, length, offset);
    for (uint64_t at = 0; !error && at < length; at += TORPOR_PAGE_SIZE)
        if (memcmp(diff->present + at, diff->expected + at, TORPOR_PAGE_SIZE))
            error = store_page(diff, (offset + at) / TORPOR_PAGE_SIZE, diff->present + at);
    return error;
}

static int diff_all(struct disk_diff *diff) {
    const uint64_t size = diff->walk.size;
    for (uint64_t offset = 0; offset < size;) {
        int error = data_walk_to(&diff->walk, offset);
        if (error)
            return error;
        diff->hint = torpor_extent_find(diff->header, offset, diff->hint);
        const struct torpor_extent *extent = &diff->header->extents[diff->hint];
        // The file system's blocks may be smaller than a page: a page that has any data is read.
        const uint64_t data = diff->walk.start & ~(TORPOR_PAGE_SIZE - 1);
        if (extent->source == TORPOR_SOURCE_ZERO && offset < data) {
            const uint64_t end = extent->offset + extent->length;
            offset = end < data ? end : data;
            continue;
        }
        const uint64_t length = size - offset < CHUNK ? size - offset : CHUNK;
        error = diff_chunk(diff, offset, length);
        if (error)
            return error;
        offset += length;
    }
    return 0;
}

static int finish(struct torpor_export_result *result, int error) {
    if (error) {
        free(result->runs);
        *result = (struct torpor_export_result){0};
    }
    return error;
}

TORPOR_EXPORT int torpor_disk_diff(const struct torpor_disk_diff_input *input, const void *header, const int32_t *sources,
                                   struct torpor_export_result *result) {
    struct torpor_extent_header parsed;
    *result = (struct torpor_export_result){0};
    if (torpor_extent_header_parse(header, input->header_length, &parsed) != TORPOR_HEADER_OK)
        return -EBADMSG;
    if (parsed.size_bytes != input->size || parsed.source_count != input->source_count)
        return -EINVAL;
    unsigned char *buffers = malloc(2 * CHUNK);
    if (!buffers)
        return -ENOMEM;
    struct disk_diff diff = {
        .walk = {.fd = input->disk, .size = input->size},
        .header = &parsed,
        .sources = sources,
        .output = input->output,
        .present = buffers,
        .expected = buffers + CHUNK,
        .result = result,
    };
    const int error = diff_all(&diff);
    free(buffers);
    return finish(result, error);
}

static int list_data(int fd, uint64_t size, struct torpor_export_result *result) {
    struct data_walk walk = {.fd = fd, .size = size};
    uint64_t capacity = 0;
    for (uint64_t page = 0, pages = size / TORPOR_PAGE_SIZE; page < pages;) {
        int error = data_walk_to(&walk, page * TORPOR_PAGE_SIZE);
        const uint64_t data = walk.start / TORPOR_PAGE_SIZE;
        const uint64_t hole = (walk.end + TORPOR_PAGE_SIZE - 1) / TORPOR_PAGE_SIZE;
        if (!error && page < data)
            error = add_run(result, &capacity, (struct torpor_run){page, data - page, TORPOR_RUN_ZERO, 0});
        if (!error && data < pages)
            error = add_run(result, &capacity, (struct torpor_run){data, hole - data, TORPOR_RUN_DATA, data * TORPOR_PAGE_SIZE});
        if (error)
            return error;
        page = data < pages ? hole : pages;
    }
    return 0;
}

TORPOR_EXPORT int torpor_data_runs(int fd, uint64_t size, struct torpor_export_result *result) {
    *result = (struct torpor_export_result){0};
    if (!size || size % TORPOR_PAGE_SIZE)
        return -EINVAL;
    return finish(result, list_data(fd, size, result));
}
