// The ways to find written pages agree: each names all that differ, and what is stored by any of them gives the same memory.
#include "rig.h"
#include "test.h"
#include "torpor.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ull
#define PAGES 4096ull
#define BITMAP_BYTES (PAGES / 8)

static bool bit(const uint8_t *bitmap, uint64_t page) {
    return bitmap[page / 8] >> (page % 8) & 1;
}

// The parent's pages, and over them what an export of `dirty` stores; compared with the memory itself where that is loaded.
static void check_stored(struct rig *rig, const uint8_t *dirty) {
    const int output = memfd_create("output", MFD_CLOEXEC);
    struct torpor_export_result result;
    CHECK_EQ(torpor_export_memory(rig->memfd, rig->snapshot.size, dirty, output, &result), 0);
    unsigned char *memory = malloc(rig->snapshot.size), now[PAGE];
    memcpy(memory, rig->snapshot.expected, rig->snapshot.size);
    for (uint64_t i = 0; i < result.run_count; i++) {
        const struct torpor_run *run = &result.runs[i];
        unsigned char *at = memory + run->page_index * PAGE;
        memset(at, 0, run->page_count * PAGE);
        if (run->kind == TORPOR_RUN_DATA)
            CHECK_EQ(torpor_pread(output, at, run->page_count * PAGE, run->output_offset), run->page_count * PAGE);
    }
    uint8_t present[BITMAP_BYTES] = {0};
    CHECK(torpor_present_pages(rig->memfd, rig->snapshot.size, present) > 0);
    for (uint64_t page = 0; page < PAGES; page++) {
        if (!bit(present, page))
            continue;
        CHECK_EQ(torpor_pread(rig->memfd, now, PAGE, page * PAGE), PAGE);
        CHECK(!memcmp(now, memory + page * PAGE, PAGE));
    }
    torpor_free(result.runs);
    free(memory);
    close(output);
}

TEST(the_methods_agree) {
    const bool scans = torpor_pagemap_scan_supported() == 1, soft = torpor_soft_dirty_supported() == 1;
    struct rig rig = start_rig(make_snapshot(60, PAGES, 3, 12), &(struct rig_options){.tracking = scans});
    const uint64_t address = tell(&rig, VMM_ADDRESS, 0, 0, 0), size = rig.snapshot.size;
    if (soft)
        CHECK_EQ(torpor_clear_soft_dirty(rig.vmm), 0);
    tell(&rig, VMM_READ, 0, 3000 * PAGE, 0);
    uint64_t random = 61;
    for (int i = 0; i < 500; i++) {
        const uint64_t page = next_random(&random) % PAGES;
        tell(&rig, VMM_WRITE, page * PAGE, PAGE, (unsigned char)(rig.snapshot.expected[page * PAGE] + 1));
    }
    const struct snapshot *snapshot = &rig.snapshot;
    uint8_t compared[BITMAP_BYTES] = {0}, scanned[BITMAP_BYTES] = {0}, marked[BITMAP_BYTES] = {0};
    const int64_t differ = torpor_compare_dirty(rig.memfd, size, snapshot->header, snapshot->header_length, snapshot->sources,
                                                snapshot->source_count, NULL, compared);
    CHECK(differ > 300);
    check_stored(&rig, compared);
    if (scans) {
        CHECK(torpor_scan_dirty(rig.vmm, address, size, 0, -1, scanned) >= differ);
        check_stored(&rig, scanned);
    }
    if (soft) {
        CHECK(torpor_soft_dirty_pages(rig.vmm, address, size, marked) >= differ);
        CHECK(torpor_keep_present(rig.memfd, size, marked) >= differ);
        check_stored(&rig, marked);
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(!scans || !bit(compared, page) || bit(scanned, page));
        CHECK(!soft || !bit(compared, page) || bit(marked, page));
    }
    printf("  compare: %ld pages; pagemap_scan: %s; soft_dirty: %s\n", (long)differ, scans ? "agrees" : "not on this kernel",
           soft ? "agrees" : "not on this kernel");
    stop_rig(&rig);
}

// A kernel without the option reports nothing and no error: the self-test must not be taken in.
TEST(soft_dirty_is_believed_only_where_it_marks) {
    const int supported = torpor_soft_dirty_supported();
    CHECK(supported == 0 || supported == 1);
    struct rig rig = start_rig(make_snapshot(62, 64, 0, 64), &(struct rig_options){0});
    const uint64_t address = tell(&rig, VMM_ADDRESS, 0, 0, 0);
    tell(&rig, VMM_WRITE, 0, 64 * PAGE, 1);
    CHECK_EQ(torpor_clear_soft_dirty(rig.vmm), 0);
    tell(&rig, VMM_WRITE, 5 * PAGE, 2 * PAGE, 2);
    uint8_t marked[8] = {0};
    CHECK_EQ(torpor_soft_dirty_pages(rig.vmm, address, 64 * PAGE, marked), supported ? 2 : 0);
    CHECK(!supported || marked[0] == 0x60);
    CHECK_EQ(torpor_soft_dirty_pages(rig.vmm, 1, 64 * PAGE, marked), -EINVAL);
    CHECK_EQ(torpor_soft_dirty_pages(0x3ffffff, address, 64 * PAGE, marked), -ENOENT);
    CHECK_EQ(torpor_clear_soft_dirty(0x3ffffff), -ENOENT);
    stop_rig(&rig);
}

TEST(keep_present_drops_holes) {
    const int memfd = torpor_memfd_create("guest", 20 * PAGE);
    char page[PAGE];
    memset(page, 1, PAGE);
    for (uint64_t i = 0; i < 20; i += 3)
        CHECK_EQ(torpor_pwrite(memfd, page, PAGE, i * PAGE), PAGE);
    uint8_t bitmap[3] = {0xff, 0x0f, 0};
    CHECK_EQ(torpor_keep_present(memfd, 20 * PAGE, bitmap), 4);
    CHECK(bitmap[0] == 0x49 && bitmap[1] == 0x02 && !bitmap[2]);
    close(memfd);
}

static uint64_t marked_pages(struct rig *rig, uint64_t address, uint8_t *bitmap) {
    memset(bitmap, 0, BITMAP_BYTES);
    const int64_t pages = torpor_scan_dirty(rig->vmm, address, rig->snapshot.size, 1, -1, bitmap);
    CHECK(pages >= 0);
    return (uint64_t)pages;
}

// A VM that boots has no pager. Its memory is armed by the first scan, and a page that is given back later is marked, also when it is
// read again: it is zero then.
TEST(memory_without_a_pager_is_tracked_from_the_first_scan_on) {
    struct rig rig = start_vmm(make_snapshot(63, PAGES, 1, 64), &(struct rig_options){.tracking = true, .alone = true});
    close(rig.pager_socket);
    const uint64_t address = tell(&rig, VMM_ADDRESS, 0, 0, 0);
    uint8_t marks[BITMAP_BYTES];
    tell(&rig, VMM_WRITE, 0, 1000 * PAGE, 1);
    CHECK_EQ(tell(&rig, VMM_READ, 1000 * PAGE, 8 * PAGE, 0), 0); // holes are zero, and nobody is asked for them
    CHECK_EQ(marked_pages(&rig, address, marks), PAGES);
    CHECK_EQ(marked_pages(&rig, address, marks), 0);
    tell(&rig, VMM_READ, 0, PAGES * PAGE, 0);
    CHECK_EQ(marked_pages(&rig, address, marks), 0);
    tell(&rig, VMM_WRITE, 10 * PAGE, 5 * PAGE, 2);
    tell(&rig, VMM_WRITE, 3000 * PAGE, PAGE, 2);
    tell(&rig, VMM_DISCARD, 100 * PAGE, 50 * PAGE, 0);
    tell(&rig, VMM_DISCARD, 200 * PAGE, 10 * PAGE, 0);
    tell(&rig, VMM_READ, 200 * PAGE, 5 * PAGE, 0);
    CHECK_EQ(marked_pages(&rig, address, marks), 66);
    for (uint64_t page = 0; page < PAGES; page++)
        CHECK_EQ(bit(marks, page), (page >= 10 && page < 15) || page == 3000 || (page >= 100 && page < 150) ||
                                       (page >= 200 && page < 210));
    // Armed again as holes: what is written there later is marked.
    tell(&rig, VMM_WRITE, 120 * PAGE, 2 * PAGE, 3);
    CHECK_EQ(marked_pages(&rig, address, marks), 2);
    CHECK(bit(marks, 120) && bit(marks, 121));
    CHECK_EQ(torpor_pidfd_signal(rig.vmm_pidfd, SIGKILL), 0);
    CHECK_EQ(wait_end(rig.vmm_pidfd), 1000 + SIGKILL);
    free_snapshot(&rig.snapshot);
}
