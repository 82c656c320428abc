// Writing guest memory to a packed file.
// A memfd is read with pread along SEEK_DATA only: reading a hole through a mapping would allocate it, and a hole that the pager
// has yet to fill would become a page of zeros. Of a process only the pages that are its own are read: any other might wait for a pager.
#include "torpor.h"

#include "crc32c.h"
#include "export.h"
#include "kernel_compat.h"
#include "memory_extent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES (1ull << 20)

struct exporter {
    struct data_walk walk;  // of a memfd; .fd -1 when a process is read
    int memory;             // the memfd, or /proc/pid/mem
    uint64_t memory_offset; // of the guest's first byte in it
    int output;
    unsigned char *buffer;
    uint64_t filled;
    uint64_t run_capacity;
    struct torpor_export_result *result;
};

static int add_run(struct exporter *exporter, uint64_t kind, uint64_t page, uint64_t count, uint64_t offset) {
    struct torpor_export_result *result = exporter->result;
    struct torpor_run *last = result->run_count ? &result->runs[result->run_count - 1] : NULL;
    *(kind == TORPOR_RUN_DATA ? &result->data_pages : &result->zero_pages) += count;
    if (last && last->kind == kind && last->page_index + last->page_count == page &&
        (kind == TORPOR_RUN_ZERO || last->output_offset + last->page_count * TORPOR_PAGE_SIZE == offset)) {
        last->page_count += count;
        return 0;
    }
    if (result->run_count == exporter->run_capacity) {
        const uint64_t capacity = exporter->run_capacity ? 2 * exporter->run_capacity : 1024;
        struct torpor_run *runs = reallocarray(result->runs, capacity, sizeof *runs);
        if (!runs)
            return -ENOMEM;
        result->runs = runs;
        exporter->run_capacity = capacity;
    }
    result->runs[result->run_count++] = (struct torpor_run){page, count, kind, kind == TORPOR_RUN_DATA ? offset : 0};
    return 0;
}

static int flush(struct exporter *exporter) {
    struct torpor_export_result *result = exporter->result;
    const int64_t put = torpor_pwrite(exporter->output, exporter->buffer, exporter->filled, result->bytes_written);
    if (put < 0)
        return (int)put;
    result->crc32c = torpor_crc32c((uint32_t)result->crc32c, exporter->buffer, exporter->filled);
    result->bytes_written += exporter->filled;
    exporter->filled = 0;
    return 0;
}

static int is_zero_page(const unsigned char *page) {
    static const unsigned char zero[TORPOR_PAGE_SIZE];
    uint64_t first;
    memcpy(&first, page, sizeof first);
    return !first && !memcmp(page, zero, sizeof zero);
}

// Keeps the pages that are not zero of the `length` bytes just read behind the filled part of the buffer.
static int keep_data(struct exporter *exporter, uint64_t offset, uint64_t length) {
    const unsigned char *from = exporter->buffer + exporter->filled;
    for (uint64_t at = 0; at < length; at += TORPOR_PAGE_SIZE) {
        const int zero = is_zero_page(from + at);
        const uint64_t written = exporter->result->bytes_written + exporter->filled;
        const int error = add_run(exporter, zero ? TORPOR_RUN_ZERO : TORPOR_RUN_DATA, (offset + at) / TORPOR_PAGE_SIZE, 1, written);
        if (error)
            return error;
        if (zero)
            continue;
        if (exporter->buffer + exporter->filled != from + at)
            memmove(exporter->buffer + exporter->filled, from + at, TORPOR_PAGE_SIZE);
        exporter->filled += TORPOR_PAGE_SIZE;
    }
    return 0;
}

static int export_data(struct exporter *exporter, uint64_t offset, uint64_t end) {
    while (offset < end) {
        const uint64_t room = BUFFER_BYTES - exporter->filled;
        const uint64_t length = end - offset < room ? end - offset : room;
        const int64_t got = torpor_pread(exporter->memory, exporter->buffer + exporter->filled, length, exporter->memory_offset + offset);
        int error = got < 0 ? (int)got : (uint64_t)got == length ? 0 : -ENODATA;
        if (!error)
            error = keep_data(exporter, offset, length);
        if (!error && exporter->filled == BUFFER_BYTES)
            error = flush(exporter);
        if (error)
            return error;
        offset += length;
    }
    return 0;
}

static int export_range(struct exporter *exporter, uint64_t offset, uint64_t end) {
    if (exporter->walk.fd < 0)
        return export_data(exporter, offset, end);
    while (offset < end) {
        int error = data_walk_to(&exporter->walk, offset);
        if (error)
            return error;
        const uint64_t boundary = offset < exporter->walk.start ? exporter->walk.start : exporter->walk.end;
        const uint64_t stop = boundary < end ? boundary : end;
        if (offset < exporter->walk.start)
            error = add_run(exporter, TORPOR_RUN_ZERO, offset / TORPOR_PAGE_SIZE, (stop - offset) / TORPOR_PAGE_SIZE, 0);
        else
            error = export_data(exporter, offset, stop);
        if (error)
            return error;
        offset = stop;
    }
    return 0;
}

static int is_set(const uint8_t *bitmap, uint64_t page) {
    return bitmap[page / 8] >> (page % 8) & 1;
}

static int export_pages(struct exporter *exporter, const uint8_t *bitmap, uint64_t pages) {
    if (!bitmap)
        return export_range(exporter, 0, pages * TORPOR_PAGE_SIZE);
    for (uint64_t page = 0; page < pages;) {
        if (page % 8 == 0 && !bitmap[page / 8]) {
            page += 8;
            continue;
        }
        const uint64_t first = page;
        while (page < pages && is_set(bitmap, page))
            page++;
        const int error = export_range(exporter, first * TORPOR_PAGE_SIZE, page * TORPOR_PAGE_SIZE);
        if (error)
            return error;
        page += page == first;
    }
    return 0;
}

static int export_all(struct exporter *exporter, const uint8_t *bitmap, uint64_t size) {
    struct torpor_export_result *result = exporter->result;
    *result = (struct torpor_export_result){0};
    if (!size || size % TORPOR_PAGE_SIZE)
        return -EINVAL;
    exporter->buffer = aligned_alloc(TORPOR_PAGE_SIZE, BUFFER_BYTES);
    if (!exporter->buffer)
        return -ENOMEM;
    int error = export_pages(exporter, bitmap, size / TORPOR_PAGE_SIZE);
    if (!error)
        error = flush(exporter);
    free(exporter->buffer);
    if (error) {
        free(result->runs);
        *result = (struct torpor_export_result){0};
    }
    return error;
}

TORPOR_EXPORT int torpor_export_memory(int memfd, uint64_t size, const uint8_t *bitmap, int output,
                                       struct torpor_export_result *result) {
    struct exporter exporter = {.walk = {.fd = memfd, .size = size}, .memory = memfd, .output = output, .result = result};
    return export_all(&exporter, bitmap, size);
}

TORPOR_EXPORT int torpor_export_process(int pid, uint64_t address, uint64_t size, const uint8_t *bitmap, int output,
                                        struct torpor_export_result *result) {
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    struct exporter exporter = {.walk = {.fd = -1}, .memory_offset = address, .output = output, .result = result};
    exporter.memory = open(path, O_RDONLY | O_CLOEXEC);
    if (exporter.memory < 0)
        return -errno;
    const int error = export_all(&exporter, bitmap, size);
    close(exporter.memory);
    return error;
}
