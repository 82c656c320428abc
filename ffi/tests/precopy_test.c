// Writing guest memory out while it changes.
#include "crc32c.h"
#include "test.h"
#include "torpor.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ull

struct guest {
    int memfd;
    int output;
    uint64_t pages;
    unsigned char *model;
    uint64_t random;
};

static struct guest make_guest(uint64_t seed, uint64_t pages) {
    return (struct guest){torpor_memfd_create("guest", pages * PAGE), memfd_create("output", MFD_CLOEXEC), pages,
                          calloc(pages, PAGE), seed};
}

static void free_guest(struct guest *guest) {
    close(guest->memfd);
    close(guest->output);
    free(guest->model);
}

static void set(uint8_t *bitmap, uint64_t page) {
    bitmap[page / 8] |= (uint8_t)(1u << page % 8);
}

// Changes `count` pages: data, zeros, or given back; marks them.
static void change(struct guest *guest, uint64_t count, uint8_t *bitmap) {
    while (count--) {
        const uint64_t page = next_random(&guest->random) % guest->pages, kind = next_random(&guest->random) % 4;
        unsigned char *at = guest->model + page * PAGE;
        memset(at, 0, PAGE);
        if (kind > 1)
            fill_random(&guest->random, at, PAGE);
        if (kind)
            CHECK_EQ(torpor_pwrite(guest->memfd, at, PAGE, page * PAGE), PAGE);
        else
            CHECK_EQ(torpor_punch_hole(guest->memfd, page * PAGE, PAGE), 0);
        set(bitmap, page);
    }
}

static void check_result(const struct guest *guest, const uint8_t *copied, const struct torpor_export_result *result) {
    unsigned char bytes[PAGE];
    uint64_t next = 0, data = 0;
    for (uint64_t i = 0; i < result->run_count; i++) {
        const struct torpor_run *run = &result->runs[i];
        for (; next < run->page_index; next++)
            CHECK(!(copied[next / 8] >> next % 8 & 1));
        CHECK_EQ(run->page_index, next);
        for (uint64_t k = 0; k < run->page_count; k++, next++) {
            memset(bytes, 0, PAGE);
            if (run->kind == TORPOR_RUN_DATA)
                CHECK_EQ(torpor_pread(guest->output, bytes, PAGE, run->output_offset + k * PAGE), PAGE);
            CHECK(!memcmp(bytes, guest->model + next * PAGE, PAGE));
        }
        data += run->kind == TORPOR_RUN_DATA ? run->page_count : 0;
    }
    for (; next < guest->pages; next++)
        CHECK(!(copied[next / 8] >> next % 8 & 1));
    CHECK_EQ(result->data_pages, data);
    CHECK_EQ(torpor_size_bytes(guest->output), result->bytes_written);
    unsigned char *all = malloc(result->bytes_written + 1);
    CHECK_EQ(torpor_pread(guest->output, all, result->bytes_written, 0), result->bytes_written);
    CHECK_EQ(result->crc32c, torpor_crc32c_portable(0, all, result->bytes_written));
    free(all);
}

TEST(precopy_has_the_last_content_of_each_page) {
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct guest guest = make_guest(seed, 1 + next_random(&(uint64_t){seed}) % 5000);
        const uint64_t before = torpor_allocated_bytes(guest.memfd);
        struct torpor_precopy *copy = torpor_precopy_start(guest.memfd, 0, guest.pages * PAGE, guest.output);
        uint8_t *copied = calloc(1, guest.pages / 8 + 1);
        for (uint64_t round = 0; round < 5; round++) {
            uint8_t *dirty = calloc(1, guest.pages / 8 + 1);
            change(&guest, guest.pages / (round + 1), dirty);
            CHECK(torpor_precopy_round(copy, dirty, round == 4) > 0);
            for (uint64_t i = 0; i < guest.pages / 8 + 1; i++)
                copied[i] |= dirty[i];
            free(dirty);
        }
        struct torpor_export_result result;
        CHECK_EQ(torpor_precopy_finish(copy, 0, &result), 0);
        check_result(&guest, copied, &result);
        CHECK(before == 0 && result.data_pages <= result.bytes_written / PAGE); // slots of pages that became zero stay
        torpor_free(result.runs);
        torpor_precopy_free(copy);
        free(copied);
        free_guest(&guest);
    }
}

TEST(precopy_holds_more_pages_than_fit) {
    struct guest guest = make_guest(50, 12000);
    uint8_t *all = malloc(guest.pages / 8);
    memset(all, 0xff, guest.pages / 8);
    uint8_t *changed = calloc(1, guest.pages / 8);
    change(&guest, 40000, changed);
    free(changed);
    struct torpor_precopy *copy = torpor_precopy_start(guest.memfd, 0, guest.pages * PAGE, guest.output);
    CHECK_EQ(torpor_precopy_round(copy, all, 1), guest.pages);
    // What is held is of the moment of its round.
    char other[PAGE];
    memset(other, 7, PAGE);
    for (uint64_t page = 0; page < guest.pages; page++)
        CHECK_EQ(torpor_pwrite(guest.memfd, other, PAGE, page * PAGE), PAGE);
    struct torpor_export_result result;
    CHECK_EQ(torpor_precopy_finish(copy, 0, &result), 0);
    check_result(&guest, all, &result);
    torpor_free(result.runs);
    torpor_precopy_free(copy);
    free(all);
    free_guest(&guest);
}

TEST(precopy_of_a_whole_memory_lists_pages_never_copied_as_zero) {
    struct guest guest = make_guest(51, 100);
    uint8_t one[13] = {0, 2};
    fill_random(&guest.random, guest.model + 9 * PAGE, PAGE);
    CHECK_EQ(torpor_pwrite(guest.memfd, guest.model + 9 * PAGE, PAGE, 9 * PAGE), PAGE);
    struct torpor_precopy *copy = torpor_precopy_start(guest.memfd, 0, guest.pages * PAGE, guest.output);
    CHECK_EQ(torpor_precopy_round(copy, one, 0), 1);
    struct torpor_export_result result;
    CHECK_EQ(torpor_precopy_finish(copy, 1, &result), 0);
    CHECK_EQ(result.run_count, 3);
    CHECK_EQ(result.zero_pages, 99);
    uint8_t all[13];
    memset(all, 0xff, sizeof all);
    check_result(&guest, all, &result);
    torpor_free(result.runs);
    torpor_precopy_free(copy);
    free_guest(&guest);
}

TEST(precopy_reports_what_it_cannot_write) {
    struct guest guest = make_guest(52, 300);
    uint8_t *dirty = calloc(1, 38);
    change(&guest, 300, dirty);
    const int full = open("/dev/full", O_RDWR | O_CLOEXEC);
    struct torpor_precopy *copy = torpor_precopy_start(guest.memfd, 0, guest.pages * PAGE, full);
    CHECK_EQ(torpor_precopy_round(copy, dirty, 0), -ENOSPC);
    torpor_precopy_free(copy);
    copy = torpor_precopy_start(guest.memfd, 0, guest.pages * PAGE, full);
    CHECK(torpor_precopy_round(copy, dirty, 1) > 0);
    struct torpor_export_result result;
    CHECK_EQ(torpor_precopy_finish(copy, 0, &result), -ENOSPC);
    CHECK(!result.runs);
    torpor_precopy_free(copy);
    CHECK(!torpor_precopy_start(guest.memfd, 0, 100, full));
    free(dirty);
    close(full);
    free_guest(&guest);
}
