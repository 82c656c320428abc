// Prefetch of a working set, and its reader.
#include "working_set.h"

#include "crc32c.h"
#include "kernel_compat.h"
#include "rig.h"
#include "test.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ull
#define PAGES 512u

struct file {
    char magic[8];
    uint32_t version, page_size;
    uint64_t memory_bytes;
    uint32_t count, crc32c;
    uint32_t pages[PAGES];
};

static struct file file_of(uint32_t count, uint32_t step) {
    struct file file = {.magic = "TORPORWS", .version = 1, .page_size = PAGE, .memory_bytes = PAGES * PAGE, .count = count};
    for (uint32_t i = 0; i < count; i++)
        file.pages[i] = (count - 1 - i) * step % PAGES; // backwards: the order of faults is not the order of addresses
    file.crc32c = torpor_crc32c(0, file.pages, 4ull * count);
    return file;
}

static int write_file(const struct file *file, size_t bytes) {
    const int fd = memfd_create("working-set", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, file, bytes), bytes);
    return fd;
}

static int write_whole(const struct file *file) {
    return write_file(file, 32 + 4ull * file->count);
}

static void wait_for_prefetch(const struct rig *rig) {
    while (!rig->stats->prefetch_end_ns)
        sched_yield();
}

TEST(working_set_is_sorted_and_each_page_is_there_once) {
    struct file file = file_of(40, 3);
    file.pages[7] = file.pages[8];
    file.crc32c = torpor_crc32c(0, file.pages, 4 * 40);
    struct torpor_working_set set;
    CHECK(torpor_working_set_read(write_whole(&file), PAGES * PAGE, &set));
    CHECK_EQ(set.count, 39);
    for (uint32_t i = 1; i < set.count; i++)
        CHECK(set.pages[i - 1] < set.pages[i]);
    free(set.pages);
}

TEST(working_set_that_breaks_a_rule_is_none) {
    struct torpor_working_set set;
    const struct file good = file_of(16, 5);
    for (size_t byte = 0; byte < 32 + 4 * 16; byte++) {
        struct file bad = good;
        ((unsigned char *)&bad)[byte] ^= 0x41;
        CHECK(!torpor_working_set_read(write_file(&bad, 32 + 4 * 16), PAGES * PAGE, &set));
    }
    for (size_t length = 0; length < 32 + 4 * 16; length++)
        CHECK(!torpor_working_set_read(write_file(&good, length), PAGES * PAGE, &set));
    CHECK(!torpor_working_set_read(write_file(&good, 32 + 4 * 16 + 1), PAGES * PAGE, &set));
    struct file outside = file_of(2, 1);
    outside.pages[1] = PAGES;
    outside.crc32c = torpor_crc32c(0, outside.pages, 8);
    CHECK(!torpor_working_set_read(write_whole(&outside), PAGES * PAGE, &set));
    CHECK(!torpor_working_set_read(-1, PAGES * PAGE, &set));
}

TEST(pager_prefetches_the_working_set_and_nothing_else) {
    for (uint64_t seed = 21; seed < 25; seed++) {
        const struct file file = file_of(PAGES / 4, 4); // every fourth page
        struct rig_options options = {.tracking = seed % 2, .fault_around = "4096", .working_set = write_whole(&file)};
        struct rig rig = start_rig(make_snapshot(seed, PAGES, 2, 1 + seed), &options);
        wait_for_prefetch(&rig);
        CHECK_EQ(rig.stats->prefetched_pages, PAGES / 4);
        CHECK_EQ(rig.stats->faults, 0);
        tell(&rig, VMM_READ, 8 * PAGE, PAGE, 0);
        CHECK_EQ(rig.stats->faults, 0);
        check_memory(&rig, 3);
        while (rig.stats->data_pages_served + rig.stats->zero_pages_served < PAGES - PAGES / 4)
            sched_yield();
        CHECK_EQ(rig.stats->prefetched_pages, PAGES / 4);
        stop_rig(&rig);
    }
}

TEST(pager_serves_faults_while_it_prefetches) {
    for (uint64_t seed = 31; seed < 37; seed++) {
        const struct file file = file_of(PAGES, 1);
        struct rig_options options = {.tracking = seed % 2, .fault_around = "4096", .working_set = write_whole(&file)};
        struct rig rig = start_rig(make_snapshot(seed, PAGES, 2, 1 + seed), &options);
        check_memory(&rig, 4); // from the first moment on
        wait_for_prefetch(&rig);
        check_memory(&rig, 2);
        CHECK_EQ(rig.stats->prefetched_pages + rig.stats->data_pages_served + rig.stats->zero_pages_served, PAGES);
        stop_rig(&rig);
    }
}

// What the guest gives back while the prefetch runs is zero from then on, and it is marked.
TEST(pager_prefetch_and_remove) {
    const struct file file = file_of(PAGES, 1);
    struct rig_options options = {.fault_around = "4096", .working_set = write_whole(&file)};
    struct rig rig = start_rig(make_snapshot(41, PAGES, 1, PAGES), &options);
    tell(&rig, VMM_DISCARD, 100 * PAGE, 300 * PAGE, 0);
    wait_for_prefetch(&rig);
    while (rig.stats->removed_pages < 300)
        sched_yield();
    memset(rig.snapshot.expected + 100 * PAGE, 0, 300 * PAGE);
    check_memory(&rig, 2);
    stop_rig(&rig);
}

TEST(pager_without_a_valid_working_set_serves_as_ever) {
    struct file file = file_of(8, 1);
    file.version = 9;
    struct rig rig = start_rig(make_snapshot(42, PAGES, 1, 8), &(struct rig_options){.working_set = write_whole(&file)});
    check_memory(&rig, 2);
    CHECK_EQ(rig.stats->prefetched_pages, 0);
    stop_rig(&rig);
}
