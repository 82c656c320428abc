// Which pages a VMM wrote: by PAGEMAP_SCAN and by comparison.
#include "rig.h"
#include "test.h"
#include "torpor.h"

#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ull
#define PAGES 2048ull

static bool bit(const uint8_t *bitmap, uint64_t page) {
    return bitmap[page / 8] >> (page % 8) & 1;
}

static uint64_t address_of(struct rig *rig) {
    return tell(rig, VMM_ADDRESS, 0, 0, 0);
}

TEST(pagemap_scan_works_on_this_kernel) {
    CHECK_EQ(torpor_pagemap_scan_supported(), 1);
}

// Reads many, writes some, never touches the rest; the scan must say exactly the written ones.
TEST(scan_reports_exactly_the_written_pages) {
    struct rig rig = start_rig(make_snapshot(30, PAGES, 2, 20), &(struct rig_options){.tracking = true});
    const uint64_t address = address_of(&rig);
    uint8_t *bitmap = calloc(1, PAGES / 8), *wanted = calloc(1, PAGES / 8);
    CHECK_EQ(torpor_scan_dirty(rig.vmm, address, rig.snapshot.size, 0, -1, bitmap), 0);
    tell(&rig, VMM_READ, 0, 1500 * PAGE, 0);
    uint64_t random = 31;
    for (int i = 0; i < 300; i++) {
        const uint64_t page = next_random(&random) % PAGES;
        wanted[page / 8] |= (uint8_t)(1 << page % 8);
        tell(&rig, VMM_WRITE, page * PAGE, PAGE, 0x5a);
    }
    int64_t count = 0;
    for (uint64_t page = 0; page < PAGES; page++)
        count += bit(wanted, page);
    CHECK_EQ(torpor_scan_dirty(rig.vmm, address, rig.snapshot.size, 0, -1, bitmap), count);
    CHECK(!memcmp(bitmap, wanted, PAGES / 8));

    // Armed again: the next round sees only what was written after it.
    memset(bitmap, 0, PAGES / 8);
    CHECK_EQ(torpor_scan_dirty(rig.vmm, address, rig.snapshot.size, 1, -1, bitmap), count);
    tell(&rig, VMM_WRITE, 7 * PAGE, PAGE, 1);
    tell(&rig, VMM_WRITE, 1999 * PAGE, PAGE, 1);
    memset(bitmap, 0, PAGES / 8);
    CHECK_EQ(torpor_scan_dirty(rig.vmm, address, rig.snapshot.size, 0, -1, bitmap), 2);
    CHECK(bit(bitmap, 7) && bit(bitmap, 1999));
    free(bitmap);
    free(wanted);
    stop_rig(&rig);
}

// More regions than one ioctl returns.
TEST(scan_collects_many_scattered_pages) {
    const uint64_t pages = 40000;
    struct rig rig = start_rig(make_snapshot(32, pages, 0, pages), &(struct rig_options){.tracking = true});
    const uint64_t address = address_of(&rig);
    for (uint64_t page = 0; page < pages; page += 2)
        tell(&rig, VMM_WRITE, page * PAGE, PAGE, 1);
    uint8_t *bitmap = calloc(1, pages / 8);
    CHECK_EQ(torpor_scan_dirty(rig.vmm, address, rig.snapshot.size, 0, -1, bitmap), (int64_t)pages / 2);
    for (uint64_t i = 0; i < pages / 8; i++)
        CHECK_EQ(bitmap[i], 0x55);
    free(bitmap);
    stop_rig(&rig);
}

TEST(scan_refuses_memory_that_is_not_tracked) {
    struct rig rig = start_rig(make_snapshot(33, 64, 0, 64), &(struct rig_options){.tracking = false});
    uint8_t bitmap[8] = {0};
    CHECK_EQ(torpor_scan_dirty(rig.vmm, address_of(&rig), rig.snapshot.size, 0, -1, bitmap), -EPERM);
    CHECK_EQ(torpor_scan_dirty(rig.vmm, 0, rig.snapshot.size, 0, -1, bitmap), -EINVAL);
    CHECK_EQ(torpor_scan_dirty(rig.vmm, 1, rig.snapshot.size, 0, -1, bitmap), -EINVAL);
    CHECK_EQ(torpor_scan_dirty(0x3ffffff, 4096, 4096, 0, -1, bitmap), -ENOENT);
    stop_rig(&rig);
}

// Pages that were discarded after a write must be in the diff by the scan or by the pager's bitmap, whatever happens to them later.
TEST(discarded_pages_are_written_or_removed) {
    struct rig rig = start_rig(make_snapshot(34, 256, 1, 256), &(struct rig_options){.tracking = true, .fault_around = "4096"});
    tell(&rig, VMM_WRITE, 0, 64 * PAGE, 9);
    tell(&rig, VMM_DISCARD, 32 * PAGE, 64 * PAGE, 0);
    tell(&rig, VMM_WRITE, 40 * PAGE, 4 * PAGE, 7);
    tell(&rig, VMM_READ, 60 * PAGE, 10 * PAGE, 0);
    uint8_t bitmap[32] = {0};
    CHECK(torpor_scan_dirty(rig.vmm, address_of(&rig), rig.snapshot.size, 0, -1, bitmap) >= 36);
    const uint8_t *removed = (const uint8_t *)torpor_pager_stats_removed(rig.stats);
    for (uint64_t page = 0; page < 256; page++) {
        const bool changed = page < 96;
        CHECK(!changed || bit(bitmap, page) || bit(removed, page));
        CHECK(changed || (!bit(bitmap, page) && !bit(removed, page)));
    }
    stop_rig(&rig);
}

TEST(comparison_finds_exactly_the_changed_pages) {
    struct rig rig = start_rig(make_snapshot(35, PAGES, 3, 15), &(struct rig_options){0});
    tell(&rig, VMM_READ, 100 * PAGE, 1000 * PAGE, 0);
    uint8_t *bitmap = calloc(1, PAGES / 8), *wanted = calloc(1, PAGES / 8);
    uint64_t random = 36;
    int64_t count = 0;
    for (int i = 0; i < 200; i++) {
        const uint64_t page = next_random(&random) % PAGES;
        const unsigned char changed = (unsigned char)(rig.snapshot.expected[page * PAGE] + 1);
        tell(&rig, VMM_WRITE, page * PAGE, PAGE, changed);
        count += !bit(wanted, page);
        wanted[page / 8] |= (uint8_t)(1 << page % 8);
    }
    const struct snapshot *snapshot = &rig.snapshot;
    CHECK_EQ(torpor_compare_dirty(rig.memfd, snapshot->size, snapshot->header, snapshot->header_length, snapshot->sources,
                                  snapshot->source_count, NULL, bitmap),
             count);
    CHECK(!memcmp(bitmap, wanted, PAGES / 8));
    snapshot->header[80] ^= 1;
    CHECK_EQ(torpor_compare_dirty(rig.memfd, snapshot->size, snapshot->header, snapshot->header_length, snapshot->sources,
                                  snapshot->source_count, NULL, bitmap),
             -EBADMSG);
    free(bitmap);
    free(wanted);
    stop_rig(&rig);
}

TEST(comparison_reports_a_source_that_is_too_short) {
    struct snapshot snapshot = make_snapshot(37, 32, 1, 32);
    const int memfd = torpor_memfd_create("guest", snapshot.size);
    CHECK_EQ(torpor_pwrite(memfd, snapshot.expected, snapshot.size, 0), snapshot.size);
    CHECK_EQ(ftruncate(snapshot.sources[0], 0), 0);
    uint8_t bitmap[4];
    CHECK_EQ(torpor_compare_dirty(memfd, snapshot.size, snapshot.header, snapshot.header_length, snapshot.sources, 1, NULL, bitmap), -ENODATA);
    close(memfd);
    free_snapshot(&snapshot);
}
