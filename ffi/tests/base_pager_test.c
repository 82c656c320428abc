// The base pager against real page faults of many processes.
#include "base_control.h"
#include "base_rig.h"
#include "descriptor_passing.h"
#include "kernel_compat.h"
#include "test.h"
#include "torpor.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ull
#define SIBLINGS MAX_TEST_BASE_SIBLINGS

static void wait_for_count(const _Atomic uint64_t *counter, uint64_t at_least) {
    while (*counter < at_least)
        sched_yield();
}

static bool is_zero_extent(const struct snapshot *snapshot, uint64_t page) {
    struct torpor_extent_header header;
    CHECK_EQ(torpor_extent_header_parse(snapshot->header, snapshot->header_length, &header), TORPOR_HEADER_OK);
    return header.extents[torpor_extent_find(&header, page * PAGE, 0)].source == TORPOR_SOURCE_ZERO;
}

// The base has the bytes of each data page and nothing else. Returns the number of its pages.
static uint64_t check_content(const struct base_rig *base) {
    uint64_t data = 0;
    unsigned char bytes[PAGE];
    for (uint64_t page = 0; page < base->snapshot.size / PAGE; page++) {
        const bool zero = is_zero_extent(&base->snapshot, page);
        data += !zero;
        CHECK_EQ(lseek(base->clone_fd, (off_t)(page * PAGE), SEEK_DATA) == (off_t)(page * PAGE), !zero);
        if (zero)
            continue;
        CHECK_EQ(torpor_pread(base->clone_fd, bytes, PAGE, page * PAGE), PAGE);
        CHECK(!memcmp(bytes, base->snapshot.expected + page * PAGE, PAGE));
    }
    return data;
}

static void check_base(const struct base_rig *base) {
    const uint64_t data = check_content(base);
    uint64_t read = 0;
    for (int k = 0; k <= TORPOR_PAGER_COUNTED_SOURCES; k++)
        read += base->stats->bytes_read[k];
    CHECK_EQ(read, data * PAGE); // each page was read once, whoever and however many wanted it
}

static void write_pages(struct rig *sibling, uint64_t page, uint64_t count, uint8_t value) {
    tell(sibling, VMM_WRITE, page * PAGE, count * PAGE, value);
    for (uint64_t i = page; i < page + count; i++)
        sibling->snapshot.expected[i * PAGE] = value;
}

TEST(base_serves_eight_siblings_exactly) {
    static const char *const arounds[] = {"4096", "65536", "2097152"};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct base_rig base = start_base(make_snapshot(seed, 1500 + seed, (uint32_t)seed, 40),
                                          &(struct base_options){.fault_around = arounds[seed % 3]});
        struct rig siblings[SIBLINGS];
        for (int i = 0; i < SIBLINGS; i++)
            siblings[i] = start_sibling(&base);
        for (int i = 0; i < SIBLINGS - 1; i++)
            begin_check(&siblings[i], 2);
        for (int i = 0; i < SIBLINGS - 1; i++)
            end_check(&siblings[i]);
        for (int i = 0; i < SIBLINGS; i++)
            write_pages(&siblings[i], (uint64_t)i * 37, 300, (uint8_t)(100 + i));
        for (int i = 0; i < SIBLINGS; i++)
            begin_check(&siblings[i], 2);
        for (int i = 0; i < SIBLINGS; i++)
            end_check(&siblings[i]);
        check_base(&base);
        struct rig late = start_sibling(&base);
        const uint64_t faults = base.stats->faults;
        check_memory(&late, 1);
        wait_for_count(&base.stats->faults, faults + late.stats->faults);
        CHECK_EQ(late.stats->data_pages_served, 0); // what is in the base costs no event
        stop_sibling(&late);
        for (int i = 0; i < SIBLINGS; i++)
            stop_sibling(&siblings[i]);
        check_base(&base);
        CHECK_EQ(torpor_pidfd_signal(base.pager_pidfd, SIGTERM), 0);
        expect_base_end(&base, 0);
        free_snapshot(&base.snapshot);
    }
}

static bool bit(const uint8_t *bitmap, uint64_t page) {
    return bitmap[page / 8] >> (page % 8) & 1;
}

static void private_pages(struct rig *sibling, int method, uint8_t *own, uint8_t *zero) {
    const uint64_t pages = sibling->snapshot.size / PAGE;
    memset(own, 0, (pages + 7) / 8);
    memset(zero, 0, (pages + 7) / 8);
    CHECK_EQ(torpor_private_pages(sibling->vmm, tell(sibling, VMM_ADDRESS, 0, 0, 0), sibling->snapshot.size, method, own, zero), 0);
}

TEST(base_page_table_tells_exactly_what_a_sibling_wrote) {
    enum { PAGES = 2000 };
    struct base_rig base = start_base(make_snapshot(40, PAGES, 2, 20), &(struct base_options){0});
    struct rig other = start_sibling(&base), sibling = start_sibling(&base);
    write_pages(&other, 0, PAGES, 9);
    tell(&sibling, VMM_READ, 0, PAGES / 2 * PAGE, 0);
    bool written[PAGES] = {false};
    uint64_t seed = 41;
    for (int i = 0; i < 60; i++) {
        const uint64_t page = next_random(&seed) % (PAGES - 10), count = 1 + next_random(&seed) % 9;
        write_pages(&sibling, page, count, (uint8_t)i);
        memset(written + page, true, count);
    }
    uint8_t own[PAGES / 8], zero[PAGES / 8], all[PAGES / 8], none[PAGES / 8];
    private_pages(&sibling, TORPOR_PRIVATE_BY_ANY, own, zero);
    private_pages(&sibling, TORPOR_PRIVATE_BY_ENTRIES, all, none);
    const bool scans = torpor_pagemap_scan_supported() == 1;
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK_EQ(bit(all, page), bit(own, page) || bit(zero, page));
        CHECK(!bit(none, page));
        CHECK(!written[page] || bit(own, page));
        CHECK(!scans || written[page] == bit(own, page)); // exact
        CHECK(!bit(zero, page) || is_zero_extent(&base.snapshot, page));
    }
    // Written out, they are the sibling's bytes.
    struct torpor_export_result result;
    const int output = memfd_create("output", MFD_CLOEXEC);
    CHECK_EQ(torpor_export_process(sibling.vmm, tell(&sibling, VMM_ADDRESS, 0, 0, 0), PAGES * PAGE, own, output, &result), 0);
    uint64_t exported = 0;
    unsigned char bytes[PAGE];
    for (uint64_t i = 0; i < result.run_count; i++)
        for (uint64_t k = 0; k < result.runs[i].page_count; k++, exported++) {
            const struct torpor_run *run = &result.runs[i];
            memset(bytes, 0, PAGE);
            if (run->kind == TORPOR_RUN_DATA)
                CHECK_EQ(torpor_pread(output, bytes, PAGE, run->output_offset + k * PAGE), PAGE);
            CHECK(!memcmp(bytes, sibling.snapshot.expected + (run->page_index + k) * PAGE, PAGE));
        }
    CHECK_EQ(exported, result.data_pages + result.zero_pages);
    for (uint64_t page = 0; page < PAGES; page++)
        exported -= bit(own, page);
    CHECK_EQ(exported, 0);
    torpor_free(result.runs);
    close(output);
    check_memory(&sibling, 2);
    check_memory(&other, 2);
    stop_sibling(&sibling);
    stop_sibling(&other);
    free_snapshot(&base.snapshot);
    exit(0);
}

// What a sibling gave back is zero for it, whatever the base has, and says so in its page table; then it can be used again.
TEST(base_pages_that_were_given_back_are_zero) {
    enum { PAGES = 600 };
    struct base_rig base = start_base(make_snapshot(50, PAGES, 1, 600), &(struct base_options){0});
    struct rig sibling = start_sibling(&base), other = start_sibling(&base);
    check_memory(&other, 2); // the base has all pages
    write_pages(&sibling, 100, 50, 3);
    tell(&sibling, VMM_READ, 150 * PAGE, 50 * PAGE, 0);
    tell(&sibling, VMM_DISCARD, 90 * PAGE, 200 * PAGE, 0);
    memset(sibling.snapshot.expected + 90 * PAGE, 0, 200 * PAGE);
    check_memory(&sibling, 4);
    uint8_t own[PAGES / 8], zero[PAGES / 8];
    private_pages(&sibling, TORPOR_PRIVATE_BY_ANY, own, zero);
    for (uint64_t page = 90; page < 290; page++)
        CHECK(bit(zero, page) || (bit(own, page) && torpor_pagemap_scan_supported() != 1));
    write_pages(&sibling, 120, 100, 7);
    tell(&sibling, VMM_DISCARD, 150 * PAGE, 10 * PAGE, 0);
    memset(sibling.snapshot.expected + 150 * PAGE, 0, 10 * PAGE);
    check_memory(&sibling, 4);
    check_memory(&other, 2);
    check_base(&base);
    stop_sibling(&sibling);
    stop_sibling(&other);
    free_snapshot(&base.snapshot);
    exit(0);
}

TEST(base_cannot_be_written_by_who_maps_it) {
    struct base_rig base = start_base(make_snapshot(60, 64, 1, 64), &(struct base_options){0});
    struct rig sibling = start_sibling(&base);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", base.clone_fd);
    const int again = open(path, O_RDWR | O_CLOEXEC); // as root could
    CHECK_EQ(torpor_pwrite(again, "x", 1, 0), -EPERM);
    CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED);
    CHECK_EQ(torpor_punch_hole(again, 0, PAGE), -EPERM);
    CHECK(ftruncate(again, 0) < 0);
    check_memory(&sibling, 2);
    stop_sibling(&sibling);
    exit(0);
}

// Pages of a sibling that no other one can share.
static uint64_t own_pages(struct rig *sibling) {
    const uint64_t pages = sibling->snapshot.size / PAGE;
    uint8_t *own = calloc(1, pages), *zero = calloc(1, pages);
    private_pages(sibling, TORPOR_PRIVATE_BY_ANY, own, zero);
    uint64_t count = 0;
    for (uint64_t page = 0; page < pages; page++)
        count += bit(own, page);
    free(own);
    free(zero);
    return count;
}

enum victim { SERVER, KEEPER, ONE_AFTER_THE_OTHER };

// Kills in the middle of serving four siblings. Nobody helps, and all goes on as if nothing had been: with the same base.
static void kill_while_serving(enum victim victim, uint64_t seed, const char *fault_around) {
    enum { COUNT = 4 };
    struct base_rig base = start_base(make_snapshot(seed, 3000, 2, 30), &(struct base_options){.fault_around = fault_around});
    struct rig siblings[COUNT];
    for (int i = 0; i < COUNT; i++)
        siblings[i] = start_sibling(&base);
    for (int i = 0; i < COUNT - 1; i++)
        begin_check(&siblings[i], 2);
    wait_for_count(&base.stats->faults, 30);
    const uint32_t first = server_of(&base, 0);
    if (victim != KEEPER)
        kill_server(&base);
    const uint32_t second = victim == KEEPER ? first : server_of(&base, first);
    if (victim != SERVER) {
        CHECK_EQ(torpor_pidfd_signal(base.pager_pidfd, SIGKILL), 0);
        expect_base_end(&base, 1000 + SIGKILL);
        server_of(&base, second);
    }
    for (int i = 0; i < COUNT - 1; i++)
        end_check(&siblings[i]);
    struct rig late = start_sibling(&base);
    check_memory(&late, 2);
    check_memory(&siblings[COUNT - 1], 2);
    check_content(&base);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(own_pages(&siblings[i]), 0); // nobody got a copy
        write_pages(&siblings[i], 100, 200, (uint8_t)i);
        check_memory(&siblings[i], 2);
        CHECK_EQ(siblings[i].stats->adoptions, victim == ONE_AFTER_THE_OTHER ? 2 : 1);
    }
    CHECK_EQ(own_pages(&late), 0);
    CHECK_EQ(late.stats->adoptions, 0);
    for (int i = 0; i < COUNT; i++)
        stop_sibling(&siblings[i]);
    stop_sibling(&late);
    CHECK_EQ(base.stats->adoptions, victim == ONE_AFTER_THE_OTHER ? 2 : 1);
    CHECK_EQ(base.stats->state, TORPOR_PAGER_SERVING);
    if (victim == SERVER) {
        CHECK_EQ(torpor_pidfd_signal(base.pager_pidfd, SIGTERM), 0);
        expect_base_end(&base, 0);
        CHECK_EQ(base.stats->state, TORPOR_PAGER_STOPPED);
    }
    free_snapshot(&base.snapshot);
}

TEST(base_server_that_was_killed_has_a_successor_that_fills_the_same_base) {
    kill_while_serving(SERVER, 70, "4096");
    kill_while_serving(SERVER, 71, "65536");
    kill_while_serving(SERVER, 72, "2097152");
}

TEST(base_keeper_that_was_killed_has_a_successor) {
    kill_while_serving(KEEPER, 73, "4096");
    kill_while_serving(KEEPER, 74, "65536");
}

TEST(base_server_and_keeper_can_be_killed_one_after_the_other) {
    kill_while_serving(ONE_AFTER_THE_OTHER, 75, "4096");
}

TEST(base_server_is_killed_many_times_in_its_life) {
    struct base_rig base = start_base(make_snapshot(76, 3000, 1, 3000), &(struct base_options){.fault_around = "4096"});
    struct rig sibling = start_sibling(&base);
    begin_check(&sibling, 4);
    uint32_t last = 0;
    for (int kills = 0; kills < 5; kills++) {
        last = server_of(&base, last);
        CHECK_EQ(kill((pid_t)last, SIGKILL), 0);
    }
    end_check(&sibling);
    CHECK_EQ(sibling.stats->adoptions, 5);
    check_content(&base);
    CHECK_EQ(kill((pid_t)server_of(&base, last), SIGKILL), 0); // the sixth in a row: no successor
    expect_base_end(&base, TORPOR_PAGER_USERFAULTFD);
    CHECK_EQ(base.stats->state, TORPOR_PAGER_FAILED);
    exit(0);
}

static int peek_userfaultfd(int socket, char *text, int64_t *length) {
    int descriptors[TORPOR_MAX_PASSED_DESCRIPTORS];
    uint32_t count;
    *length = torpor_receive_descriptors(socket, text, 4096, descriptors, &count, -1, 1);
    CHECK(*length > 0);
    CHECK_EQ(count, 1);
    return descriptors[0];
}

// Both at once: neither can start the other.
static uint32_t kill_both(struct base_rig *base) {
    const uint32_t server = server_of(base, 0);
    CHECK_EQ(torpor_pidfd_signal(base->pager_pidfd, SIGSTOP), 0);
    CHECK_EQ(kill((pid_t)server, SIGKILL), 0);
    CHECK_EQ(torpor_pidfd_signal(base->pager_pidfd, SIGKILL), 0);
    expect_base_end(base, 1000 + SIGKILL);
    return server;
}

// An agent starts another pager, which takes the siblings over. The base is sealed: they get copies from now on.
TEST(base_pager_that_is_gone_is_replaced_by_an_agent) {
    enum { COUNT = 4 };
    for (uint64_t seed = 77; seed < 80; seed++) {
        const struct base_options options = {.fault_around = "4096"};
        struct base_rig base = start_base(make_snapshot(seed, 3000, 2, 30), &options);
        struct rig siblings[COUNT];
        int uffds[COUNT];
        char texts[COUNT][4096];
        int64_t lengths[COUNT];
        for (int i = 0; i < COUNT; i++) {
            struct snapshot snapshot = base.snapshot;
            snapshot.expected = malloc(snapshot.size);
            memcpy(snapshot.expected, base.snapshot.expected, snapshot.size);
            siblings[i] = start_vmm(snapshot, &(struct rig_options){.base_fd = base.clone_fd});
            uffds[i] = peek_userfaultfd(siblings[i].pager_socket, texts[i], &lengths[i]);
            CHECK_EQ(join_base(&base, &siblings[i], siblings[i].pager_socket, -1), 0);
            close(siblings[i].pager_socket);
        }
        for (int i = 0; i < COUNT; i++)
            begin_check(&siblings[i], 2);
        wait_for_count(&base.stats->faults, 500);
        const uint32_t dead = kill_both(&base);
        start_base_pager(&base, &options);
        for (int i = 0; i < COUNT; i++) {
            int sockets[2];
            CHECK_EQ(torpor_socket_pair(sockets), 0);
            CHECK_EQ(torpor_send_descriptors(sockets[0], texts[i], (uint64_t)lengths[i], &uffds[i], 1), 0);
            CHECK_EQ(join_base(&base, &siblings[i], sockets[1], siblings[i].vmm_pidfd), 0);
            close(sockets[0]);
            close(sockets[1]);
            close(uffds[i]);
        }
        CHECK_EQ(kill((pid_t)server_of(&base, dead), SIGKILL), 0); // also such a one has a successor
        for (int i = 0; i < COUNT; i++)
            end_check(&siblings[i]);
        for (int i = 0; i < COUNT; i++) {
            write_pages(&siblings[i], 100, 200, (uint8_t)i);
            check_memory(&siblings[i], 2);
            CHECK_EQ(siblings[i].stats->adoptions, 2);
            stop_sibling(&siblings[i]);
        }
        CHECK_EQ(base.stats->adoptions, 2);
        free_snapshot(&base.snapshot);
    }
    exit(0);
}

TEST(base_pager_never_serves_a_page_that_it_could_not_read) {
    struct base_rig base = start_base(make_snapshot(80, 64, 1, 1), &(struct base_options){.fault_around = "4096"});
    struct rig sibling = start_sibling(&base);
    CHECK_EQ(ftruncate(base.snapshot.sources[0], 0), 0);
    begin_check(&sibling, 1);
    expect_base_end(&base, TORPOR_PAGER_READ);
    CHECK_EQ(base.stats->state, TORPOR_PAGER_FAILED);
    CHECK_EQ(base.stats->error, TORPOR_PAGER_READ);
    CHECK_EQ(base.stats->data_pages_served, 0);
    exit(0);
}

TEST(base_pager_ends_with_its_last_sibling) {
    struct base_rig base = start_base(make_snapshot(90, 64, 1, 8), &(struct base_options){.idle_ms = "300000"});
    struct rig first = start_sibling(&base), second = start_sibling(&base);
    stop_sibling(&first);
    struct rig third = start_sibling(&base);
    check_memory(&third, 1);
    stop_sibling(&second);
    check_memory(&third, 1);
    stop_sibling(&third);
    CHECK_EQ(torpor_pidfd_signal(base.pager_pidfd, SIGTERM), 0);
    expect_base_end(&base, 0);

    // Without patience it ends by itself, and who comes too late is told so by the end of the reply.
    struct base_rig brief = start_base(make_snapshot(91, 64, 1, 8), &(struct base_options){.idle_ms = "0"});
    expect_base_end(&brief, 0);
    CHECK_EQ(brief.stats->state, TORPOR_PAGER_STOPPED);
    int sockets[2];
    CHECK_EQ(torpor_socket_pair(sockets), 0);
    close(brief.pager_end);
    struct rig late = {.stats_fd = base.stats_fd};
    const struct torpor_base_message message = {TORPOR_BASE_MAGIC, TORPOR_BASE_JOIN};
    const int descriptors[] = {sockets[0], late.stats_fd, sockets[1]};
    CHECK_EQ(torpor_send_descriptors(brief.agent_end, &message, sizeof message, descriptors, 3), -EPIPE);
    exit(0);
}

// A VMM that was taken over can say what it likes: it is served no more, and the others do not notice.
static void misbehave(struct base_rig *base, const char *text, int descriptor) {
    struct rig rogue = {.snapshot = base->snapshot};
    int sockets[2];
    CHECK_EQ(torpor_socket_pair(sockets), 0);
    CHECK((rogue.stats_fd = torpor_memfd_create("stats", torpor_pager_stats_size(base->snapshot.size))) >= 0);
    rogue.stats = mmap(NULL, torpor_pager_stats_size(base->snapshot.size), PROT_READ, MAP_SHARED, rogue.stats_fd, 0);
    CHECK_EQ(join_base(base, &rogue, sockets[1], -1), 0);
    close(sockets[1]);
    CHECK_EQ(torpor_send_descriptors(sockets[0], text, strlen(text), &descriptor, descriptor < 0 ? 0 : 1), 0);
    while (rogue.stats->state == TORPOR_PAGER_WAITING || rogue.stats->state == TORPOR_PAGER_SERVING)
        sched_yield();
    CHECK_EQ(rogue.stats->state, TORPOR_PAGER_FAILED);
    close(sockets[0]);
}

TEST(base_pager_survives_a_sibling_that_misbehaves) {
    struct base_rig base = start_base(make_snapshot(100, 64, 1, 8), &(struct base_options){0});
    struct rig sibling = start_sibling(&base);
    const char *region = "[{\"base_host_virt_addr\":4096,\"size\":262144,\"offset\":0,\"page_size\":4096}]";
    int pipes[2];
    CHECK_EQ(pipe(pipes), 0);
    misbehave(&base, "no json", -1);
    misbehave(&base, region, -1);
    misbehave(&base, region, pipes[0]);
    misbehave(&base, "[{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0,\"page_size\":4096}]", pipes[0]);
    const int device = torpor_open_userfaultfd_device();
    const int uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC);
    misbehave(&base, region, uffd); // of no use: it was never told its features
    struct rig wrong = {.stats_fd = pipes[0]};
    int sockets[2];
    CHECK_EQ(torpor_socket_pair(sockets), 0);
    CHECK(join_base(&base, &wrong, sockets[1], -1) > 0); // no statistics memfd
    check_memory(&sibling, 2);
    stop_sibling(&sibling);
    exit(0);
}

TEST(base_pager_passes_its_self_test) {
    int pidfd;
    const int device = torpor_open_userfaultfd_device();
    const char *arguments[] = {"torpor-base-pager", "--self-test", "--userfaultfd-device-fd", "3", NULL};
    const char *environment[] = {"ASAN_OPTIONS=detect_leaks=0", NULL};
    const int32_t good[] = {2, 2, 3, device}, bad[] = {3, pidfd = open("/dev/null", O_RDWR)};
    start_process(built_file("tests/torpor-base-pager"), arguments, environment, good, 2, 0, &pidfd);
    CHECK_EQ(wait_end(pidfd), 0);
    start_process(built_file("tests/torpor-base-pager"), arguments, environment, bad, 1, 0, &pidfd);
    CHECK_EQ(wait_end(pidfd), 1);
}
