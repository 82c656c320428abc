// The control socket of both pagers: grammar, hostile input, and real clients.
#include "base_rig.h"
#include "pager_control.h"
#include "test.h"
#include "torpor.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PAGE 4096ull

static const char *parse(const char *line, struct torpor_control_command *command) {
    return torpor_control_parse(line, strlen(line), 1000, command);
}

static void check_refused(const char *line, const char *code) {
    struct torpor_control_command command;
    const char *wrong = parse(line, &command);
    if (!wrong || strcmp(wrong, code)) {
        fprintf(stderr, "  \"%s\": %s, not %s\n", line, wrong ? wrong : "taken", code);
        exit(1);
    }
}

TEST(control_commands_have_a_strict_grammar) {
    struct torpor_control_command command;
    CHECK(!parse("stats", &command) && command.kind == TORPOR_CONTROL_STATS);
    CHECK(!parse("prefetch 0 1000", &command));
    CHECK(command.kind == TORPOR_CONTROL_PREFETCH && command.first == 0 && command.count == 1000);
    CHECK(!parse("prefetch 999 1", &command) && command.first == 999 && command.count == 1);
    static const char *const unknown[] = {"", "stat", "statss", "stats ", " stats", "STATS", "stats\r", "prefetch", "prefetchx 1 1"};
    static const char *const malformed[] = {"prefetch ",      "prefetch 1",     "prefetch 1 ",    "prefetch 1 2 ", "prefetch  1 2",
                                            "prefetch 1  2",  "prefetch -1 2",  "prefetch +1 2",  "prefetch 01 2", "prefetch 1 02",
                                            "prefetch 1\t2",  "prefetch 0x1 2", "prefetch 1 2\r", "prefetch 1 2 3",
                                            "prefetch 1 18446744073709551616", "prefetch 99999999999999999999 1"};
    static const char *const outside[] = {"prefetch 1000 1", "prefetch 0 1001", "prefetch 999 2", "prefetch 0 0",
                                          "prefetch 1 18446744073709551615", "prefetch 18446744073709551615 1"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        check_refused(unknown[i], "unknown_command");
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++)
        check_refused(malformed[i], "malformed");
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        check_refused(outside[i], "out_of_range");
    CHECK(torpor_control_parse("stats\0x", 7, 1000, &command));
}

TEST(control_statistics_fit_whatever_they_are) {
    static struct torpor_pager_stats stats;
    static char text[TORPOR_CONTROL_ANSWER];
    memset(&stats, 0xff, sizeof stats);
    const uint32_t siblings = UINT32_MAX;
    const uint32_t length = torpor_pager_stats_json(text, sizeof text, &stats, &siblings);
    CHECK(length > 0 && length < sizeof text && text[length - 1] == '\n' && strlen(text) == length);
    for (uint32_t capacity = 0; capacity <= length; capacity++)
        CHECK_EQ(torpor_pager_stats_json(text, capacity, &stats, &siblings), 0);
}

static bool take_all(void *context, uint64_t first, uint64_t count) {
    CHECK(count && first < 1000 && count <= 1000 - first);
    *(uint64_t *)context += count;
    return true;
}

// Random bytes and pieces of commands, in pieces of random length: each answer is one line, and nothing is written beyond its place.
TEST(control_input_is_answered_line_by_line_whatever_it_is) {
    static struct torpor_pager_stats stats = {.page_count = 1000};
    static const char *const words[] = {"stats", "prefetch ", "1", "999", " ", "\n", "\n", "stats\n", "prefetch 1 2\n", "0", "\r"};
    uint64_t seed = 3, queued = 0, answers = 0;
    struct torpor_control control = {.listener = -1, .stats = &stats, .prefetch = take_all, .context = &queued};
    static struct torpor_control_client client;
    for (int run = 0; run < 3000; run++) {
        client = (struct torpor_control_client){.fd = -1};
        for (int step = 0; step < 40 && !client.ended; step++) {
            char piece[TORPOR_CONTROL_LINE];
            uint32_t length = 1 + (uint32_t)(next_random(&seed) % 16);
            const char *word = words[next_random(&seed) % (sizeof words / sizeof *words)];
            if (next_random(&seed) % 4)
                length = (uint32_t)strlen(strcpy(piece, word));
            else
                fill_random(&seed, piece, sizeof piece);
            const uint32_t space = TORPOR_CONTROL_LINE - client.in_length;
            length = length < space ? length : space;
            memcpy(client.in + client.in_length, piece, length);
            client.in_length += length;
            do {
                client.out_length = client.out_done = 0;
                torpor_control_answer(&control, &client);
                if (client.out_length) {
                    CHECK_EQ(client.out[0], '{');
                    CHECK(memchr(client.out, '\n', client.out_length) == client.out + client.out_length - 1);
                    answers++;
                }
            } while (client.out_length && !client.ended);
            CHECK(client.in_length < TORPOR_CONTROL_LINE || client.ended);
        }
    }
    CHECK(answers > 10000 && queued > 1000);
}

static const char *socket_path(void) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/torpor-control-%d.sock", getpid());
    return path;
}

static int connect_control(void) {
    int fd;
    while ((fd = torpor_unix_connect(socket_path())) == -ENOENT || fd == -ECONNREFUSED)
        sched_yield(); // not made yet, or a dead pager's
    CHECK(fd >= 0);
    return fd;
}

static void read_line(int fd, char *line, size_t capacity) {
    size_t length = 0;
    while (!length || line[length - 1] != '\n') {
        const ssize_t got = read(fd, line + length, capacity - 1 - length);
        CHECK(got > 0);
        length += (size_t)got;
    }
    line[length] = 0;
}

static void ask_at(int fd, const char *command, char *line, size_t capacity) {
    CHECK_EQ(write(fd, command, strlen(command)), strlen(command));
    read_line(fd, line, capacity);
}

static void expect_answer(const char *command, const char *answer) {
    char line[TORPOR_CONTROL_ANSWER];
    const int fd = connect_control();
    ask_at(fd, command, line, sizeof line);
    if (strcmp(line, answer)) {
        fprintf(stderr, "  %s  %s", command, line);
        CHECK(!"answer is as expected");
    }
    close(fd);
}

static uint64_t field(const char *name) {
    char line[TORPOR_CONTROL_ANSWER], quoted[64];
    const int fd = connect_control();
    ask_at(fd, "stats\n", line, sizeof line);
    close(fd);
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    const char *at = strstr(line, quoted);
    CHECK(at);
    return strtoull(at + strlen(quoted), NULL, 10);
}

static uint64_t data_pages(const struct snapshot *snapshot, uint64_t first, uint64_t count) {
    struct torpor_extent_header header;
    uint64_t data = 0;
    CHECK_EQ(torpor_extent_header_parse(snapshot->header, snapshot->header_length, &header), TORPOR_HEADER_OK);
    for (uint64_t page = first; page < first + count; page++)
        data += header.extents[torpor_extent_find(&header, page * PAGE, 0)].source != TORPOR_SOURCE_ZERO;
    return data;
}

static void wait_for_end(int fd) {
    struct pollfd ended = {.fd = fd, .events = POLLRDHUP};
    CHECK_EQ(poll(&ended, 1, -1), 1);
}

TEST(control_socket_of_a_pager_tells_and_fetches) {
    enum { PAGES = 600 };
    const struct rig_options options = {.fault_around = "4096", .control_socket = socket_path()};
    struct rig rig = start_rig(make_snapshot(200, PAGES, 1, 1), &options);
    struct stat status;
    tell(&rig, VMM_READ, 0, 16 * PAGE, 0);
    while (rig.stats->faults < 16)
        sched_yield();
    CHECK_EQ(stat(socket_path(), &status), 0);
    CHECK_EQ(status.st_mode & 0777, 0600);
    CHECK_EQ(field("faults"), 16);
    CHECK_EQ(field("data_faults"), rig.stats->data_pages_served);
    CHECK_EQ(field("zero_faults"), rig.stats->zero_pages_served);
    CHECK_EQ(field("data_faults") + field("zero_faults"), 16);
    CHECK_EQ(field("working_set_pages"), 16);
    CHECK_EQ(field("memory_bytes"), PAGES * PAGE);
    CHECK_EQ(field("pid"), (uint64_t)rig.pager);
    expect_answer("prefetch 64 100\n", "{\"queued\":100}\n");
    const uint64_t data = data_pages(&rig.snapshot, 64, 100);
    while (rig.stats->prefetched_pages < data)
        sched_yield();
    tell(&rig, VMM_READ, 64 * PAGE, 100 * PAGE, 0);
    while (rig.stats->faults < 116 - data)
        sched_yield();
    CHECK_EQ(field("zero_faults"), 116 - data - field("data_faults"));
    CHECK_EQ(field("faults"), 116 - data);
    expect_answer("prefetch 599 2\n", "{\"error\":\"out_of_range\"}\n");
    expect_answer("prefetch\n", "{\"error\":\"unknown_command\"}\n");
    // Many questions at once, the last one cut off by the end: as many answers as whole lines.
    char line[TORPOR_CONTROL_ANSWER];
    const int fd = connect_control();
    CHECK_EQ(write(fd, "prefetch 1 1\nprefetch 2 1\nsta", 29), 29);
    CHECK_EQ(shutdown(fd, SHUT_WR), 0);
    size_t length = 0;
    for (ssize_t got = 1; got > 0; length += (size_t)got)
        CHECK((got = read(fd, line + length, sizeof line - length)) >= 0);
    CHECK(length == 26 && !memcmp(line, "{\"queued\":1}\n{\"queued\":1}\n", 26));
    close(fd);
    check_memory(&rig, 4);
    stop_rig(&rig);
    CHECK(stat(socket_path(), &status) < 0 && errno == ENOENT);
}

// Whoever does not read, does not end a line, or comes in numbers, is dropped; faults are served meanwhile.
TEST(control_socket_drops_who_stalls) {
    struct rig rig = start_rig(make_snapshot(201, 3000, 1, 40), &(struct rig_options){.control_socket = socket_path()});
    char line[TORPOR_CONTROL_ANSWER];
    const int silent = connect_control(), endless = connect_control(), deaf = connect_control();
    char zeros[100] = {0};
    CHECK_EQ(write(endless, zeros, sizeof zeros), sizeof zeros);
    read_line(endless, line, sizeof line);
    CHECK(!strcmp(line, "{\"error\":\"line_too_long\"}\n"));
    wait_for_end(endless);
    CHECK_EQ(fcntl(deaf, F_SETFL, O_NONBLOCK), 0);
    for (int refused = 0; refused < 100;) // until neither side's buffer takes more
        if (write(deaf, "stats\nstats\n", 12) < 0) {
            CHECK_EQ(errno, EAGAIN);
            refused++;
            sched_yield();
        }
    int crowd[TORPOR_CONTROL_CLIENTS];
    for (uint32_t i = 0; i < TORPOR_CONTROL_CLIENTS; i++)
        crowd[i] = connect_control();
    check_memory(&rig, 4);
    wait_for_end(silent);
    wait_for_end(deaf);
    for (uint32_t i = 0; i < TORPOR_CONTROL_CLIENTS; i++)
        wait_for_end(crowd[i]);
    CHECK_EQ(field("faults"), rig.stats->faults);
    stop_rig(&rig);
}

TEST(control_socket_of_a_dead_pager_is_replaced) {
    struct rig rig = start_rig(make_snapshot(202, 64, 1, 8), &(struct rig_options){.control_socket = socket_path()});
    const uint64_t first = field("pid");
    struct rig other = start_rig(make_snapshot(203, 64, 1, 8), &(struct rig_options){0});
    CHECK_EQ(torpor_pidfd_signal(rig.pager_pidfd, SIGKILL), 0);
    CHECK_EQ(wait_end(rig.pager_pidfd), 1000 + SIGKILL);
    struct rig next = start_rig(make_snapshot(204, 64, 1, 8), &(struct rig_options){.control_socket = socket_path()});
    CHECK(field("pid") != first);
    stop_rig(&next);
    stop_rig(&other);
    exit(0);
}

TEST(control_socket_of_a_base_outlives_its_processes) {
    struct base_rig base =
        start_base(make_snapshot(210, 2000, 1, 1), &(struct base_options){.control_socket = socket_path(), .fault_around = "4096"});
    struct rig sibling = start_sibling(&base);
    CHECK_EQ(field("siblings"), 1);
    tell(&sibling, VMM_READ, 0, PAGE, 0);
    expect_answer("prefetch 100 300\n", "{\"queued\":300}\n");
    const uint64_t data = data_pages(&base.snapshot, 100, 300), more = data_pages(&base.snapshot, 500, 300);
    while (base.stats->prefetched_pages < data)
        sched_yield();
    const uint32_t first = server_of(&base, 0);
    kill_server(&base);
    const uint32_t second = server_of(&base, first);
    CHECK_EQ(field("pid"), second);
    CHECK_EQ(torpor_pidfd_signal(base.pager_pidfd, SIGKILL), 0);
    expect_base_end(&base, 1000 + SIGKILL);
    const uint32_t third = server_of(&base, second);
    CHECK_EQ(field("pid"), third);
    CHECK_EQ(field("adoptions"), 2);
    expect_answer("prefetch 500 300\n", "{\"queued\":300}\n");
    while (base.stats->prefetched_pages < data + more)
        sched_yield();
    struct rig late = start_sibling(&base);
    CHECK_EQ(field("siblings"), 2);
    tell(&late, VMM_READ, 500 * PAGE, 300 * PAGE, 0);
    while (late.stats->faults < 300 - more)
        sched_yield();
    CHECK_EQ(late.stats->zero_faults, 300 - more);
    CHECK_EQ(late.stats->faults, 300 - more);
    check_memory(&late, 2);
    stop_sibling(&late);
    stop_sibling(&sibling);
    CHECK_EQ(kill((pid_t)third, SIGTERM), 0);
    struct stat status;
    while (!stat(socket_path(), &status))
        sched_yield();
    free_snapshot(&base.snapshot);
}
