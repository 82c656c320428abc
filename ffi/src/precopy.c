// Writing guest memory out while the guest runs: pages are copied again when they were written after their copy, until the rest is
// copied with the vCPUs stopped.
// Each page has at most one slot of the output, however often it is copied. Memory is read with pread only: of a memfd that fills no
// hole, and reads a hole as zeros. A page that is written during its copy is torn; the caller's tracking names it again.
#include "torpor.h"

#include "crc32c.h"
#include "export.h"
#include "kernel_compat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK_PAGES 256u
#define CHUNK_BYTES (CHUNK_PAGES * TORPOR_PAGE_SIZE)
// Pages that a stopped guest need not wait for the file with: 32 MiB, 10 ms of copying.
#define HELD_PAGES 8192u

#define NO_SLOT UINT32_MAX

enum page_state { UNKNOWN, ZERO, DATA };

struct torpor_precopy {
    int memory;
    uint64_t memory_offset;
    int output;
    uint64_t pages;
    uint32_t slot_count;
    uint32_t *slots; // per page; kept when a page becomes zero, so that it can be used again
    uint8_t *states; // per page: enum page_state
    unsigned char *chunk;
    unsigned char *held; // HELD_PAGES pages of which held_count are to be written
    uint32_t *held_slots;
    uint32_t held_count;
};

static int is_zero_page(const unsigned char *page) {
    static const unsigned char zero[TORPOR_PAGE_SIZE];
    uint64_t first;
    memcpy(&first, page, sizeof first);
    return !first && !memcmp(page, zero, sizeof zero);
}

// Notes what the page is now and returns its slot, or NO_SLOT for a page of zeros.
static uint32_t place(struct torpor_precopy *copy, uint64_t page, const unsigned char *bytes) {
    if (is_zero_page(bytes)) {
        copy->states[page] = ZERO;
        return NO_SLOT;
    }
    copy->states[page] = DATA;
    if (copy->slots[page] == NO_SLOT)
        copy->slots[page] = copy->slot_count++;
    return copy->slots[page];
}

static int write_slots(struct torpor_precopy *copy, const unsigned char *bytes, uint32_t slot, uint64_t count) {
    const int64_t put = torpor_pwrite(copy->output, bytes, count * TORPOR_PAGE_SIZE, slot * TORPOR_PAGE_SIZE);
    return put < 0 ? (int)put : 0;
}

// Writes the pages of the chunk; pages whose slots follow each other go together.
static int write_chunk(struct torpor_precopy *copy, uint64_t first, uint64_t count) {
    uint64_t run = 0; // pages before `i` that are still to be written
    uint32_t run_slot = 0;
    int error = 0;
    for (uint64_t i = 0; i <= count && !error; i++) {
        const uint32_t slot = i < count ? place(copy, first + i, copy->chunk + i * TORPOR_PAGE_SIZE) : NO_SLOT;
        if (run && slot != NO_SLOT && slot == run_slot + run) {
            run++;
            continue;
        }
        if (run)
            error = write_slots(copy, copy->chunk + (i - run) * TORPOR_PAGE_SIZE, run_slot, run);
        run = slot != NO_SLOT;
        run_slot = slot;
    }
    return error;
}

static int read_pages(struct torpor_precopy *copy, unsigned char *into, uint64_t first, uint64_t count) {
    const int64_t got = torpor_pread(copy->memory, into, count * TORPOR_PAGE_SIZE, copy->memory_offset + first * TORPOR_PAGE_SIZE);
    return got < 0 ? (int)got : (uint64_t)got == count * TORPOR_PAGE_SIZE ? 0 : -ENODATA;
}

static int copy_run(struct torpor_precopy *copy, uint64_t first, uint64_t count) {
    while (count) {
        const uint64_t part = count < CHUNK_PAGES ? count : CHUNK_PAGES;
        int error = read_pages(copy, copy->chunk, first, part);
        if (!error)
            error = write_chunk(copy, first, part);
        if (error)
            return error;
        first += part;
        count -= part;
    }
    return 0;
}

// Keeps the pages of a run in memory, as many as fit; the rest is written at once.
static int hold_run(struct torpor_precopy *copy, uint64_t first, uint64_t count) {
    while (count && copy->held_count < HELD_PAGES) {
        const uint64_t room = HELD_PAGES - copy->held_count, part = count < room ? count : room;
        unsigned char *from = copy->held + copy->held_count * TORPOR_PAGE_SIZE;
        const int error = read_pages(copy, from, first, part);
        if (error)
            return error;
        for (uint64_t i = 0; i < part; i++) {
            const unsigned char *page = from + i * TORPOR_PAGE_SIZE;
            const uint32_t slot = place(copy, first + i, page);
            if (slot == NO_SLOT)
                continue;
            unsigned char *kept = copy->held + copy->held_count * TORPOR_PAGE_SIZE;
            if (kept != page)
                memmove(kept, page, TORPOR_PAGE_SIZE);
            copy->held_slots[copy->held_count++] = slot;
        }
        first += part;
        count -= part;
    }
    return copy_run(copy, first, count);
}

static int write_held(struct torpor_precopy *copy) {
    for (uint32_t i = 0, count; i < copy->held_count; i += count) {
        for (count = 1; i + count < copy->held_count && copy->held_slots[i + count] == copy->held_slots[i] + count;)
            count++;
        const int error = write_slots(copy, copy->held + i * TORPOR_PAGE_SIZE, copy->held_slots[i], count);
        if (error)
            return error;
    }
    copy->held_count = 0;
    return 0;
}

// Holes are zero, and need not be read: of a balloon there may be many. /proc/pid/mem cannot tell.
static uint64_t skip_hole(struct torpor_precopy *copy, uint64_t first, uint64_t end) {
    const off_t data = copy->memory_offset ? 0 : lseek(copy->memory, (off_t)(first * TORPOR_PAGE_SIZE), SEEK_DATA);
    uint64_t next = data < 0 ? (errno == ENXIO ? end : first) : (uint64_t)data / TORPOR_PAGE_SIZE;
    next = next > end ? end : next;
    for (; first < next; first++)
        copy->states[first] = ZERO;
    return first;
}

static int copy_pages(struct torpor_precopy *copy, uint64_t first, uint64_t end, int hold) {
    while ((first = skip_hole(copy, first, end)) < end) {
        const uint64_t count = end - first < CHUNK_PAGES ? end - first : CHUNK_PAGES;
        const int error = (hold ? hold_run : copy_run)(copy, first, count);
        if (error)
            return error;
        first += count;
    }
    return 0;
}

static int is_set(const uint8_t *bitmap, uint64_t page) {
    return bitmap[page / 8] >> (page % 8) & 1;
}

TORPOR_EXPORT int64_t torpor_precopy_round(struct torpor_precopy *copy, const uint8_t *bitmap, int hold) {
    int64_t copied = 0;
    for (uint64_t page = 0; page < copy->pages;) {
        if (page % 8 == 0 && !bitmap[page / 8]) {
            page += 8;
            continue;
        }
        const uint64_t first = page;
        while (page < copy->pages && is_set(bitmap, page))
            page++;
        const int error = copy_pages(copy, first, page, hold);
        if (error)
            return error;
        copied += (int64_t)(page - first);
        page += page == first;
    }
    return copied;
}

static int add_run(struct torpor_export_result *result, uint64_t *capacity, uint64_t kind, uint64_t page, uint64_t offset) {
    struct torpor_run *last = result->run_count ? &result->runs[result->run_count - 1] : NULL;
    ++*(kind == TORPOR_RUN_DATA ? &result->data_pages : &result->zero_pages);
    if (last && last->kind == kind && last->page_index + last->page_count == page &&
        (kind == TORPOR_RUN_ZERO || last->output_offset + last->page_count * TORPOR_PAGE_SIZE == offset)) {
        last->page_count++;
        return 0;
    }
    if (result->run_count == *capacity) {
        *capacity = *capacity ? 2 * *capacity : 1024;
        struct torpor_run *runs = reallocarray(result->runs, *capacity, sizeof *runs);
        if (!runs)
            return -ENOMEM;
        result->runs = runs;
    }
    result->runs[result->run_count++] = (struct torpor_run){page, 1, kind, offset};
    return 0;
}

static int list_runs(const struct torpor_precopy *copy, int complete, struct torpor_export_result *result) {
    uint64_t capacity = 0;
    for (uint64_t page = 0; page < copy->pages; page++) {
        const uint8_t state = copy->states[page];
        int error = 0;
        if (state == DATA)
            error = add_run(result, &capacity, TORPOR_RUN_DATA, page, copy->slots[page] * TORPOR_PAGE_SIZE);
        else if (state == ZERO || complete)
            error = add_run(result, &capacity, TORPOR_RUN_ZERO, page, 0);
        if (error)
            return error;
    }
    return 0;
}

static int checksum(const struct torpor_precopy *copy, struct torpor_export_result *result) {
    result->bytes_written = copy->slot_count * TORPOR_PAGE_SIZE;
    for (uint64_t offset = 0; offset < result->bytes_written;) {
        const uint64_t left = result->bytes_written - offset, part = left < CHUNK_BYTES ? left : CHUNK_BYTES;
        const int64_t got = torpor_pread(copy->output, copy->chunk, part, offset);
        if (got != (int64_t)part)
            return got < 0 ? (int)got : -ENODATA;
        result->crc32c = torpor_crc32c((uint32_t)result->crc32c, copy->chunk, part);
        offset += part;
    }
    return 0;
}

TORPOR_EXPORT int torpor_precopy_finish(struct torpor_precopy *copy, int complete, struct torpor_export_result *result) {
    *result = (struct torpor_export_result){0};
    int error = write_held(copy);
    if (!error)
        error = list_runs(copy, complete, result);
    if (!error)
        error = checksum(copy, result);
    if (error) {
        free(result->runs);
        *result = (struct torpor_export_result){0};
    }
    return error;
}

TORPOR_EXPORT void torpor_precopy_free(struct torpor_precopy *copy) {
    if (!copy)
        return;
    free(copy->slots);
    free(copy->states);
    free(copy->chunk);
    free(copy->held_slots);
    if (copy->held)
        munmap(copy->held, HELD_PAGES * TORPOR_PAGE_SIZE);
    free(copy);
}

TORPOR_EXPORT struct torpor_precopy *torpor_precopy_start(int memory, uint64_t memory_offset, uint64_t size, int output) {
    const uint64_t pages = size / TORPOR_PAGE_SIZE;
    struct torpor_precopy *copy = calloc(1, sizeof *copy);
    if (!copy || !pages || size % TORPOR_PAGE_SIZE || pages >= NO_SLOT) {
        free(copy);
        return NULL;
    }
    copy->memory = memory;
    copy->memory_offset = memory_offset;
    copy->output = output;
    copy->pages = pages;
    copy->slots = malloc(pages * sizeof *copy->slots);
    copy->states = calloc(pages, sizeof *copy->states);
    copy->chunk = aligned_alloc(TORPOR_PAGE_SIZE, CHUNK_BYTES);
    copy->held_slots = calloc(HELD_PAGES, sizeof *copy->held_slots);
    // Populated now: a page fault per page would double the time that the vCPUs stand still.
    copy->held = mmap(NULL, HELD_PAGES * TORPOR_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (copy->held == MAP_FAILED)
        copy->held = NULL;
    if (!copy->slots || !copy->states || !copy->chunk || !copy->held_slots || !copy->held) {
        torpor_precopy_free(copy);
        return NULL;
    }
    memset(copy->slots, 0xff, pages * sizeof *copy->slots);
    return copy;
}
