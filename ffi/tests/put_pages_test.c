// Pages that are put over a base, and which of a process's own pages differ from a table.
#include "kernel_compat.h"
#include "snapshot.h"
#include "test.h"
#include "torpor.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ull
#define PAGES 600ull

// This process as a VMM that maps a base privately.
struct guest {
    unsigned char *memory;
    unsigned char *base; // the base's content
    int base_fd;
    int uffd;
};

static struct guest map_guest(uint64_t *seed) {
    struct guest guest = {.base_fd = torpor_memfd_create("base", PAGES * PAGE)};
    CHECK(guest.base_fd >= 0);
    guest.base = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, guest.base_fd, 0);
    CHECK(guest.base != MAP_FAILED);
    // Every second page is a hole.
    for (uint64_t page = 0; page < PAGES; page += 2)
        fill_random(seed, guest.base + page * PAGE, PAGE);
    guest.memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, guest.base_fd, 0);
    CHECK(guest.memory != MAP_FAILED);
    const int device = torpor_open_userfaultfd_device();
    CHECK((guest.uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)) >= 0);
    close(device);
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM};
    struct uffdio_register registration = {.range = {(uintptr_t)guest.memory, PAGES * PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    CHECK_EQ(ioctl(guest.uffd, UFFDIO_API, &api), 0);
    CHECK_EQ(ioctl(guest.uffd, UFFDIO_REGISTER, &registration), 0);
    return guest;
}

static struct torpor_put_target target_of(const struct guest *guest, const struct snapshot *snapshot) {
    return (struct torpor_put_target){.address = (uintptr_t)guest->memory,
                                      .size = snapshot->size,
                                      .header_length = snapshot->header_length,
                                      .source_count = snapshot->source_count,
                                      .pid = getpid(),
                                      .uffd = guest->uffd};
}

static bool bit(const uint8_t *bitmap, uint64_t page) {
    return bitmap[page / 8] >> (page % 8) & 1;
}

static void set(uint8_t *bitmap, uint64_t page) {
    bitmap[page / 8] |= (uint8_t)(1u << (page % 8));
}

// What is in `bitmap` is the snapshot's, everything else the base's; pages of zeros take no memory.
TEST(pages_put_over_a_base_are_the_snapshots_and_all_others_the_bases) {
    uint64_t seed = 50;
    struct guest guest = map_guest(&seed);
    struct snapshot snapshot = make_snapshot(51, PAGES, 3, 9);
    uint8_t bitmap[PAGES / 8 + 1] = {0}, own[PAGES / 8 + 1] = {0}, zero[PAGES / 8 + 1] = {0};
    int64_t count = 0;
    for (uint64_t page = 0; page < PAGES; page++)
        if (page % 37 < 20 && ++count)
            set(bitmap, page);
    const struct torpor_put_target target = target_of(&guest, &snapshot);
    CHECK_EQ(torpor_put_pages(&target, snapshot.header, snapshot.sources, bitmap), count);
    CHECK_EQ(torpor_private_pages(getpid(), (uintptr_t)guest.memory, snapshot.size, TORPOR_PRIVATE_BY_SCAN, own, zero), 0);
    static const unsigned char nothing[PAGE];
    for (uint64_t page = 0; page < PAGES; page++) {
        const unsigned char *expected = snapshot.expected + page * PAGE;
        CHECK_EQ(bit(own, page) || bit(zero, page), bit(bitmap, page));
        if (!bit(bitmap, page))
            CHECK(page % 2 || !memcmp(guest.memory + page * PAGE, guest.base + page * PAGE, PAGE));
        else
            CHECK(!memcmp(guest.memory + page * PAGE, expected, PAGE) && bit(zero, page) == !memcmp(expected, nothing, PAGE));
    }
    free_snapshot(&snapshot);
}

// The VMM should not have touched its memory yet. If it has, its pages are overwritten all the same, and the base is not.
TEST(pages_that_are_mapped_already_are_overwritten_and_the_base_is_not) {
    uint64_t seed = 52;
    struct guest guest = map_guest(&seed);
    struct snapshot snapshot = make_snapshot(53, PAGES, 2, 5);
    unsigned char before[PAGE];
    memcpy(before, guest.base, PAGE);
    const volatile unsigned char touched = guest.memory[0];
    (void)touched;
    guest.memory[2 * PAGE] ^= 1;
    uint8_t bitmap[PAGES / 8 + 1];
    memset(bitmap, 0xff, sizeof bitmap);
    const struct torpor_put_target target = target_of(&guest, &snapshot);
    CHECK_EQ(torpor_put_pages(&target, snapshot.header, snapshot.sources, bitmap), PAGES);
    CHECK(!memcmp(guest.memory, snapshot.expected, snapshot.size));
    CHECK(!memcmp(guest.base, before, PAGE));
    free_snapshot(&snapshot);
}

TEST(own_pages_are_compared_with_a_table) {
    uint64_t seed = 54;
    struct guest guest = map_guest(&seed);
    struct snapshot snapshot = make_snapshot(55, PAGES, 2, 5);
    uint8_t all[PAGES / 8 + 1], differing[PAGES / 8 + 1] = {0};
    memset(all, 0xff, sizeof all);
    const struct torpor_put_target target = target_of(&guest, &snapshot);
    CHECK_EQ(torpor_put_pages(&target, snapshot.header, snapshot.sources, all), PAGES);
    guest.memory[5 * PAGE + 17] ^= 1;
    guest.memory[400 * PAGE] ^= 1;
    guest.memory[6 * PAGE] ^= 0; // written, but equal
    CHECK_EQ(torpor_compare_process(getpid(), (uintptr_t)guest.memory, snapshot.size, snapshot.header, snapshot.header_length,
                                    snapshot.sources, snapshot.source_count, all, differing),
             2);
    CHECK(bit(differing, 5) && bit(differing, 400));
    CHECK_EQ(torpor_compare_process(getpid(), (uintptr_t)guest.memory, snapshot.size, snapshot.header, snapshot.header_length,
                                    snapshot.sources, snapshot.source_count, NULL, differing),
             -EINVAL);
    free_snapshot(&snapshot);
}

TEST(putting_pages_of_a_short_source_or_into_a_dead_process_is_an_error) {
    uint64_t seed = 56;
    struct guest guest = map_guest(&seed);
    struct snapshot snapshot = make_snapshot(57, PAGES, 1, 5);
    uint8_t all[PAGES / 8 + 1];
    memset(all, 0xff, sizeof all);
    struct torpor_put_target target = target_of(&guest, &snapshot);
    CHECK_EQ(ftruncate(snapshot.sources[0], (off_t)PAGE), 0);
    CHECK_EQ(torpor_put_pages(&target, snapshot.header, snapshot.sources, all), -ENODATA);
    target.pid = 1 << 30;
    CHECK_EQ(torpor_put_pages(&target, snapshot.header, snapshot.sources, all), -ESRCH);
    free_snapshot(&snapshot);
}
