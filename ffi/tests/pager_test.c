// The pager against real page faults of another process.
#include "descriptor_passing.h"
#include "kernel_compat.h"
#include "rig.h"
#include "test.h"
#include "torpor.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ull

static bool removed(const struct rig *rig, uint64_t page) {
    return torpor_pager_stats_removed(rig->stats)[page / 64] >> (page % 64) & 1;
}

// The pager counts after it has let the VMM go on.
static void wait_for_count(const _Atomic uint64_t *counter, uint64_t at_least) {
    while (*counter < at_least)
        sched_yield();
}

static void check_served(const struct rig *rig) {
    const uint64_t pages = rig->snapshot.size / PAGE;
    while (rig->stats->data_pages_served + rig->stats->zero_pages_served < pages)
        sched_yield();
    CHECK_EQ(rig->stats->data_pages_served + rig->stats->zero_pages_served, pages);
}

TEST(pager_serves_every_page_exactly) {
    static const char *const arounds[] = {"4096", "65536", "2097152"};
    for (uint64_t seed = 1; seed <= 9; seed++) {
        const struct rig_options options = {.tracking = seed % 2, .fault_around = arounds[seed % 3]};
        struct rig rig = start_rig(make_snapshot(seed, 1 + seed * 700, (uint32_t)(seed % 5), 1 + seed * seed), &options);
        check_memory(&rig, 4);
        check_served(&rig);
        CHECK_EQ(rig.stats->tracking, options.tracking);
        check_memory(&rig, 2); // nothing faults any more
        check_served(&rig);
        CHECK(rig.stats->order_count <= rig.stats->faults);
        stop_rig(&rig);
    }
}

TEST(pager_serves_more_than_64_sources) {
    struct rig rig = start_rig(make_snapshot(77, 3000, 70, 3), &(struct rig_options){0});
    check_memory(&rig, 3);
    CHECK(rig.stats->bytes_read[TORPOR_PAGER_COUNTED_SOURCES] > 0);
    stop_rig(&rig);
}

TEST(pager_serves_a_vmm_without_privileges) {
    struct rig rig = start_rig(make_snapshot(5, 500, 2, 9), &(struct rig_options){.user = 65534});
    check_memory(&rig, 2);
    stop_rig(&rig);
}

TEST(pager_records_the_order_of_faults_once_per_page) {
    struct rig rig = start_rig(make_snapshot(6, 64, 1, 64), &(struct rig_options){.fault_around = "4096"});
    static const uint32_t wanted[] = {40, 3, 63, 0};
    for (int i = 0; i < 4; i++)
        tell(&rig, VMM_READ, wanted[i] * PAGE, PAGE, 0);
    tell(&rig, VMM_DISCARD, 3 * PAGE, PAGE, 0);
    tell(&rig, VMM_READ, 3 * PAGE, PAGE, 0);
    wait_for_count(&rig.stats->faults, 5);
    CHECK_EQ(rig.stats->order_count, 4);
    CHECK(!memcmp(torpor_pager_stats_order(rig.stats), wanted, sizeof wanted));
    stop_rig(&rig);
}

// A page that was given back reads as zero and stays marked for the next diff, whether it had been loaded or not.
static void give_back(enum vmm_operation how, bool tracking) {
    struct rig rig = start_rig(make_snapshot(8, 256, 1, 256), &(struct rig_options){.tracking = tracking, .fault_around = "4096"});
    memset(rig.snapshot.expected + 10 * PAGE, 0, 20 * PAGE);
    memset(rig.snapshot.expected + 100 * PAGE, 0, PAGE);
    tell(&rig, VMM_READ, 15 * PAGE, 3 * PAGE, 0);
    tell(&rig, how, 10 * PAGE, 20 * PAGE, 0);
    tell(&rig, how, 100 * PAGE, PAGE, 0);
    check_memory(&rig, 4);
    for (uint64_t page = 0; page < 256; page++)
        CHECK_EQ(removed(&rig, page), (page >= 10 && page < 30) || page == 100);
    CHECK_EQ(rig.stats->removes, 2);
    CHECK_EQ(rig.stats->removed_pages, 21);
    stop_rig(&rig);
}

TEST(pager_serves_zero_after_discard) {
    give_back(VMM_DISCARD, false);
    give_back(VMM_DISCARD, true);
}

TEST(pager_serves_zero_after_madv_remove) {
    give_back(VMM_REMOVE, false);
    give_back(VMM_REMOVE, true);
}

// A VMM gives memory back in two steps: a hole in the file, then MADV_DONTNEED. Between them a neighbour faults, and the pager installs
// what is around it: none of that may be what the guest had there before.
static void fault_between_the_steps(bool tracking) {
    enum { PAGES = 64, FIRST = 20, COUNT = 8 }; // one fault-around window has pages 16 … 31
    struct rig rig = start_rig(make_snapshot(19, PAGES, 1, 1), &(struct rig_options){.tracking = tracking});
    check_memory(&rig, 1);
    tell(&rig, VMM_PUNCH, FIRST * PAGE, COUNT * PAGE, 0);
    tell(&rig, VMM_JOIN, 0, 0, 0);
    tell(&rig, VMM_READ, FIRST * PAGE, PAGE, 0);
    tell(&rig, VMM_DONTNEED, FIRST * PAGE, COUNT * PAGE, 0);
    memset(rig.snapshot.expected + FIRST * PAGE, 0, COUNT * PAGE);
    check_memory(&rig, 4);
    for (uint64_t page = 0; page < PAGES; page++)
        CHECK_EQ(removed(&rig, page), page >= FIRST && page < FIRST + COUNT);
    stop_rig(&rig);
}

TEST(pager_brings_back_nothing_between_the_two_steps_of_a_discard) {
    fault_between_the_steps(false);
    fault_between_the_steps(true);
}

// The userfaultfd that waits in the pager's socket, without taking the message away.
static int peek_userfaultfd(struct rig *rig, char *text, int64_t *length) {
    int descriptors[TORPOR_MAX_PASSED_DESCRIPTORS];
    uint32_t count;
    *length = torpor_receive_descriptors(rig->pager_socket, text, 4096, descriptors, &count, -1, 1);
    CHECK(*length > 0);
    CHECK_EQ(count, 1);
    return descriptors[0];
}

static unsigned long pending_faults(int uffd) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", uffd);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    CHECK(length > 0);
    text[length] = 0;
    const char *total = strstr(text, "total:");
    CHECK(total);
    return strtoul(total + 6, NULL, 10);
}

static void wait_for_faults(int uffd, unsigned long count) {
    while (pending_faults(uffd) < count)
        sched_yield();
}

// The kernel answers EAGAIN before it looks at the arguments while a REMOVE event is unread.
static void wait_for_remove_event(int uffd) {
    struct uffdio_copy copy = {0};
    while (!(ioctl(uffd, UFFDIO_COPY, &copy) < 0 && errno == EAGAIN))
        sched_yield();
}

TEST(pager_wakes_a_fault_whose_page_is_there_already) {
    const struct rig_options options = {.tracking = true};
    struct rig rig = start_vmm(make_snapshot(9, 64, 1, 64), &options);
    char text[4096];
    int64_t length;
    const int uffd = peek_userfaultfd(&rig, text, &length);
    start_pager(&rig, &options, rig.pager_socket, -1);
    close(rig.pager_socket);
    tell(&rig, VMM_READ, 63 * PAGE, PAGE, 0);
    CHECK_EQ(torpor_pidfd_signal(rig.pager_pidfd, SIGSTOP), 0);
    tell(&rig, VMM_TOUCH, 0, 8 * PAGE, 0); // eight threads in one fault-around window
    wait_for_faults(uffd, 8);
    CHECK_EQ(torpor_pidfd_signal(rig.pager_pidfd, SIGCONT), 0);
    tell(&rig, VMM_JOIN, 0, 0, 0);
    // One was answered with the pages of all. Of the others, those that fitted into the queue were there already.
    wait_for_count(&rig.stats->eexist, 3);
    check_memory(&rig, 2);
    close(uffd);
    stop_rig(&rig);
}

// The host put the page there while the fault was waiting: nothing is installed, so nothing but an explicit wake ends the wait.
TEST(pager_wakes_a_fault_whose_page_came_from_elsewhere) {
    struct rig rig = start_vmm(make_snapshot(18, 64, 1, 64), &(struct rig_options){0});
    char text[4096], content[PAGE];
    int64_t length;
    const int uffd = peek_userfaultfd(&rig, text, &length);
    start_pager(&rig, &(struct rig_options){0}, rig.pager_socket, -1);
    close(rig.pager_socket);
    tell(&rig, VMM_READ, 63 * PAGE, PAGE, 0);
    CHECK_EQ(torpor_pidfd_signal(rig.pager_pidfd, SIGSTOP), 0);
    tell(&rig, VMM_TOUCH, 5 * PAGE, PAGE, 0);
    wait_for_faults(uffd, 1);
    memset(content, 77, sizeof content);
    CHECK_EQ(torpor_pwrite(rig.memfd, content, PAGE, 5 * PAGE), PAGE);
    CHECK_EQ(torpor_pidfd_signal(rig.pager_pidfd, SIGCONT), 0);
    CHECK_EQ(tell(&rig, VMM_JOIN, 0, 0, 0), 77);
    CHECK(rig.stats->eexist >= 1);
    close(uffd);
    stop_rig(&rig);
}

TEST(pager_reads_remove_events_before_it_answers_older_faults) {
    const struct rig_options options = {.fault_around = "4096"};
    struct rig rig = start_vmm(make_snapshot(10, 64, 1, 64), &options);
    char text[4096];
    int64_t length;
    const int uffd = peek_userfaultfd(&rig, text, &length);
    tell(&rig, VMM_TOUCH, 0, 16 * PAGE, 0);
    wait_for_faults(uffd, 16);
    tell(&rig, VMM_REMOVE_START, 0, 64 * PAGE, 0);
    wait_for_remove_event(uffd);
    start_pager(&rig, &options, rig.pager_socket, -1);
    close(rig.pager_socket);
    CHECK_EQ(tell(&rig, VMM_JOIN, 0, 0, 0), 0); // the sum of what the threads read
    memset(rig.snapshot.expected, 0, rig.snapshot.size);
    check_memory(&rig, 4);
    CHECK_EQ(rig.stats->removes, 1);
    close(uffd);
    stop_rig(&rig);
}

// The pager is held while one thread gives pages back and others fault in the same window: whatever order it finds them in, they are zero.
TEST(pager_brings_back_nothing_that_is_being_given_back) {
    enum { PAGES = 64, FIRST = 20, COUNT = 8 };
    const struct rig_options options = {0};
    struct rig rig = start_vmm(make_snapshot(30, PAGES, 1, 1), &options);
    char text[4096];
    int64_t length;
    const int uffd = peek_userfaultfd(&rig, text, &length);
    start_pager(&rig, &options, rig.pager_socket, -1);
    close(rig.pager_socket);
    tell(&rig, VMM_READ, 63 * PAGE, PAGE, 0);
    CHECK_EQ(torpor_pidfd_signal(rig.pager_pidfd, SIGSTOP), 0);
    tell(&rig, VMM_TOUCH, 16 * PAGE, 4 * PAGE, 0); // before the pages
    wait_for_faults(uffd, 4);
    tell(&rig, VMM_PUNCH, FIRST * PAGE, COUNT * PAGE, 0);
    wait_for_remove_event(uffd);
    CHECK_EQ(torpor_pidfd_signal(rig.pager_pidfd, SIGCONT), 0);
    tell(&rig, VMM_JOIN, 0, 0, 0);
    tell(&rig, VMM_DONTNEED, FIRST * PAGE, COUNT * PAGE, 0);
    memset(rig.snapshot.expected + FIRST * PAGE, 0, COUNT * PAGE);
    check_memory(&rig, 4);
    CHECK_EQ(rig.stats->removes, 2); // the steps are different threads' here; those of one thread send one message (give_back)
    close(uffd);
    stop_rig(&rig);
}

TEST(pager_that_was_killed_is_replaced) {
    for (uint64_t seed = 20; seed < 24; seed++) {
        const struct rig_options options = {.tracking = seed % 2, .fault_around = "4096"};
        struct rig rig = start_vmm(make_snapshot(seed, 4000, 2, 30), &options);
        char text[4096];
        int64_t length;
        const int uffd = peek_userfaultfd(&rig, text, &length);
        start_pager(&rig, &options, rig.pager_socket, rig.vmm_pidfd);
        close(rig.pager_socket);
        tell(&rig, VMM_DISCARD, 50 * PAGE, 10 * PAGE, 0);
        memset(rig.snapshot.expected + 50 * PAGE, 0, 10 * PAGE);
        send_command(&rig, VMM_COPY_OUT, 0, rig.snapshot.size, 4);
        wait_for_count(&rig.stats->faults, 300);
        CHECK_EQ(torpor_pidfd_signal(rig.pager_pidfd, SIGKILL), 0);
        CHECK_EQ(wait_end(rig.pager_pidfd), 1000 + SIGKILL);

        int sockets[2];
        CHECK_EQ(torpor_socket_pair(sockets), 0);
        CHECK_EQ(torpor_send_descriptors(sockets[0], text, (uint64_t)length, &uffd, 1), 0);
        start_pager(&rig, &options, sockets[1], rig.vmm_pidfd);
        close(sockets[0]); // with a pidfd, the end of the socket means nothing
        close(sockets[1]);
        receive_reply(&rig);
        check_memory(&rig, 4);
        CHECK_EQ(rig.stats->adoptions, 1);
        CHECK(removed(&rig, 55));
        close(uffd);
        stop_rig(&rig);
    }
}

TEST(pager_ends_with_status_0_on_sigterm) {
    struct rig rig = start_rig(make_snapshot(11, 16, 1, 4), &(struct rig_options){0});
    check_memory(&rig, 1);
    CHECK_EQ(torpor_pidfd_signal(rig.pager_pidfd, SIGTERM), 0);
    CHECK_EQ(wait_end(rig.pager_pidfd), 0);
    CHECK_EQ(rig.stats->state, TORPOR_PAGER_STOPPED);
    exit(0); // the VMM dies with this process
}

TEST(pager_refuses_a_broken_header) {
    struct snapshot snapshot = make_snapshot(12, 16, 1, 4);
    snapshot.header[70] ^= 1;
    CHECK_EQ(torpor_pwrite(snapshot.header_fd, snapshot.header, snapshot.header_length, 0), snapshot.header_length);
    struct rig rig = start_rig(snapshot, &(struct rig_options){0});
    CHECK_EQ(wait_end(rig.pager_pidfd), TORPOR_PAGER_HEADER);
    exit(0);
}

TEST(pager_refuses_a_source_that_is_too_short) {
    struct snapshot snapshot = make_snapshot(13, 64, 1, 8);
    CHECK_EQ(ftruncate(snapshot.sources[0], (off_t)(torpor_size_bytes(snapshot.sources[0]) - (int64_t)PAGE)), 0);
    struct rig rig = start_rig(snapshot, &(struct rig_options){0});
    CHECK_EQ(wait_end(rig.pager_pidfd), TORPOR_PAGER_SOURCE);
    exit(0);
}

TEST(pager_never_serves_a_page_that_it_could_not_read) {
    struct rig rig = start_rig(make_snapshot(14, 64, 1, 1), &(struct rig_options){.fault_around = "4096"});
    tell(&rig, VMM_ADDRESS, 0, 0, 0);
    while (rig.stats->state != TORPOR_PAGER_SERVING)
        sched_yield();
    CHECK_EQ(ftruncate(rig.snapshot.sources[0], 0), 0);
    send_command(&rig, VMM_COPY_OUT, 0, rig.snapshot.size, 1);
    CHECK_EQ(wait_end(rig.pager_pidfd), TORPOR_PAGER_READ);
    CHECK_EQ(rig.stats->state, TORPOR_PAGER_FAILED);
    CHECK_EQ(rig.stats->error, TORPOR_PAGER_READ);
    CHECK_EQ(rig.stats->data_pages_served, 0);
    exit(0);
}

TEST(pager_refuses_statistics_that_could_shrink) {
    struct rig rig = start_vmm(make_snapshot(15, 16, 0, 4), &(struct rig_options){0});
    rig.stats_fd = memfd_create("unsealed", MFD_CLOEXEC);
    CHECK_EQ(ftruncate(rig.stats_fd, (off_t)torpor_pager_stats_size(rig.snapshot.size)), 0);
    start_pager(&rig, &(struct rig_options){0}, rig.pager_socket, -1);
    CHECK_EQ(wait_end(rig.pager_pidfd), TORPOR_PAGER_USAGE);
    exit(0);
}

TEST(pager_ends_when_the_vmm_never_says_hello) {
    struct rig rig = start_vmm(make_snapshot(16, 16, 0, 4), &(struct rig_options){0});
    int sockets[2];
    CHECK_EQ(torpor_socket_pair(sockets), 0);
    start_pager(&rig, &(struct rig_options){0}, sockets[1], -1);
    close(sockets[1]);
    close(sockets[0]);
    CHECK_EQ(wait_end(rig.pager_pidfd), 0);
    exit(0);
}

TEST(pager_refuses_a_handshake_of_another_size) {
    struct rig rig = start_vmm(make_snapshot(17, 16, 0, 4), &(struct rig_options){0});
    char text[4096];
    int64_t length;
    const int uffd = peek_userfaultfd(&rig, text, &length);
    const char *other = "[{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0,\"page_size\":4096}]";
    int sockets[2];
    CHECK_EQ(torpor_socket_pair(sockets), 0);
    CHECK_EQ(torpor_send_descriptors(sockets[0], other, strlen(other), &uffd, 1), 0);
    start_pager(&rig, &(struct rig_options){0}, sockets[1], -1);
    CHECK_EQ(wait_end(rig.pager_pidfd), TORPOR_PAGER_USERFAULTFD);
    exit(0);
}
