// A disk against random parents: what the diff says, laid over the parent, is the disk again.
#include "extent_header.h"
#include "snapshot.h"
#include "test.h"
#include "torpor.h"

#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ull

static int sparse_file(uint64_t size) {
    const int fd = memfd_create("disk", MFD_CLOEXEC);
    CHECK(fd >= 0 && !ftruncate(fd, (off_t)size));
    return fd;
}

// Changes, zeroes and punches random pages of a copy of the parent.
static int changed_disk(const struct snapshot *parent, unsigned char *bytes, uint64_t *seed) {
    const int disk = sparse_file(parent->size);
    for (uint64_t page = 0; page < parent->size / PAGE; page++) {
        unsigned char *at = bytes + page * PAGE;
        const uint64_t choice = next_random(seed) % 16;
        if (choice == 0)
            fill_random(seed, at, PAGE);
        if (choice == 1)
            memset(at, 0, PAGE);
        if (choice == 2)
            at[next_random(seed) % PAGE] ^= 1;
        uint64_t sum = 0;
        for (uint64_t i = 0; i < PAGE; i++)
            sum |= at[i];
        if (sum || choice == 3) // zero pages are holes, but for some
            CHECK_EQ(pwrite(disk, at, PAGE, (off_t)(page * PAGE)), PAGE);
    }
    return disk;
}

static void lay_over(unsigned char *bytes, const struct torpor_export_result *diff, int output) {
    for (uint64_t i = 0; i < diff->run_count; i++) {
        const struct torpor_run *run = &diff->runs[i];
        unsigned char *at = bytes + run->page_index * PAGE;
        const uint64_t length = run->page_count * PAGE;
        CHECK(!i || run[-1].page_index + run[-1].page_count <= run->page_index);
        if (run->kind == TORPOR_RUN_ZERO)
            memset(at, 0, length);
        else
            CHECK_EQ(pread(output, at, length, (off_t)run->output_offset), length);
    }
}

static void diff_once(uint64_t seed) {
    struct snapshot parent = make_snapshot(seed, 700, 3, 20);
    unsigned char *before = parent.expected, *after = malloc(parent.size);
    memcpy(after, before, parent.size);
    const int disk = changed_disk(&parent, after, &seed), output = sparse_file(0);
    uint64_t changed = 0;
    for (uint64_t at = 0; at < parent.size; at += PAGE)
        changed += !!memcmp(before + at, after + at, PAGE);
    const struct torpor_disk_diff_input input = {parent.size, parent.header_length, 3, disk, output, 0};
    struct torpor_export_result diff;
    CHECK_EQ(torpor_disk_diff(&input, parent.header, parent.sources, &diff), 0);
    CHECK_EQ(diff.data_pages + diff.zero_pages, changed);
    CHECK_EQ(diff.bytes_written, diff.data_pages * PAGE);
    CHECK_EQ(torpor_file_crc32c(output, diff.bytes_written), diff.crc32c);
    lay_over(before, &diff, output);
    CHECK(!memcmp(before, after, parent.size));
    torpor_free(diff.runs);
    free(after);
    close(disk);
    close(output);
    free_snapshot(&parent);
}

TEST(disk_diff_over_parent_is_the_disk) {
    for (uint64_t seed = 1; seed <= 12; seed++)
        diff_once(seed);
}

TEST(disk_diff_refuses_a_broken_header_and_a_short_source) {
    struct snapshot parent = make_snapshot(5, 64, 2, 4);
    const int disk = sparse_file(parent.size), output = sparse_file(0);
    struct torpor_disk_diff_input input = {parent.size, parent.header_length - 1, 2, disk, output, 0};
    struct torpor_export_result diff;
    CHECK_EQ(torpor_disk_diff(&input, parent.header, parent.sources, &diff), -EBADMSG);
    input.header_length++;
    CHECK(!ftruncate(parent.sources[0], 0) && !ftruncate(parent.sources[1], 0));
    CHECK_EQ(torpor_disk_diff(&input, parent.header, parent.sources, &diff), -ENODATA);
    CHECK(!diff.runs);
    close(disk);
    close(output);
    free_snapshot(&parent);
}

TEST(data_runs_cover_a_sparse_file) {
    const int fd = sparse_file(100 * PAGE);
    CHECK_EQ(pwrite(fd, "x", 1, 10 * PAGE), 1);
    CHECK_EQ(pwrite(fd, "x", 1, 11 * PAGE), 1);
    CHECK_EQ(pwrite(fd, "x", 1, 99 * PAGE), 1);
    struct torpor_export_result runs;
    CHECK_EQ(torpor_data_runs(fd, 100 * PAGE, &runs), 0);
    static const uint64_t expected[][3] = {{0, 10, 0}, {10, 2, 1}, {12, 87, 0}, {99, 1, 1}};
    CHECK_EQ(runs.run_count, 4);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(runs.runs[i].page_index, expected[i][0]);
        CHECK_EQ(runs.runs[i].page_count, expected[i][1]);
        CHECK_EQ(runs.runs[i].kind, expected[i][2]);
    }
    torpor_free(runs.runs);
    CHECK_EQ(torpor_data_runs(fd, 100, &runs), -EINVAL);
    close(fd);
}

TEST(copy_ranges_puts_parts_where_they_belong) {
    const int32_t sources[] = {sparse_file(8 * PAGE), sparse_file(8 * PAGE)};
    unsigned char block[PAGE];
    for (int i = 0; i < 16; i++) {
        memset(block, i + 1, sizeof block);
        CHECK_EQ(pwrite(sources[i / 8], block, PAGE, (i % 8) * PAGE), PAGE);
    }
    const int to = sparse_file(0);
    const struct torpor_copy_range ranges[] = {{1, 2 * PAGE, 5 * PAGE, 2 * PAGE}, {0, 7 * PAGE, 0, PAGE}};
    uint64_t copied;
    CHECK_EQ(torpor_copy_ranges(sources, 2, ranges, 2, to, &copied), 0);
    CHECK_EQ(copied, 3 * PAGE);
    static const unsigned char expected[] = {8, 0, 0, 0, 0, 11, 12};
    for (int i = 0; i < 7; i++) {
        CHECK_EQ(pread(to, block, PAGE, i * PAGE), PAGE);
        CHECK_EQ(block[0], expected[i]);
    }
    const struct torpor_copy_range beyond = {0, 7 * PAGE, 0, 2 * PAGE}, nobody = {2, 0, 0, PAGE};
    CHECK_EQ(torpor_copy_ranges(sources, 2, &beyond, 1, to, &copied), -ENODATA);
    CHECK_EQ(torpor_copy_ranges(sources, 2, &nobody, 1, to, &copied), -EINVAL);
    CHECK_EQ(torpor_file_crc32c(to, 100 * PAGE), -ENODATA);
}
