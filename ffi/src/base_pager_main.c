// torpor-base-pager: serves the page faults of all sandboxes that were spawned from one snapshot on this host. Their guest memory is a
// private mapping of one memory file, the base, which gets each page of the snapshot once.
//
//   torpor-base-pager --control-fd N --base-fd N --header-fd N --stats-fd N --userfaultfd-device-fd N [--source-fd N]...
//                     [--fault-around-bytes 65536] [--prefetch-fd N] [--idle-ms 60000] [--name TEXT]
//                     [--control-socket PATH | --control-socket-fd N]
//   torpor-base-pager --self-test --userfaultfd-device-fd N
//
//   --control-fd             messages of the agent (include/base_control.h). Its other end stays open here, too, as a descriptor that
//                            is only inherited: a later agent takes it from there, and the end of an agent is not noticed
//   --base-fd                memfd of the guest's size, sealed against shrinking; sealed against writing from then on. One that is so
//                            already was filled by a predecessor of which nothing is left: its siblings get copies of what is missing
//   --header-fd              extent header; source k of the header is the k-th --source-fd
//   --stats-fd               statistics memfd (include/pager_stats.h) of all siblings together
//   --prefetch-fd            working set (include/working_set.h): put into the base while no fault waits
//   --idle-ms                ends when there was no sibling for so long
//   --control-socket         path of a socket to be made, for questions of an operator (include/pager_control.h)
//   --control-socket-fd      the same, of a socket that listens already
//   --name                   any text: by it a later agent finds the process that is left when the other one was killed
//   --self-test              status 0 when this kernel can do all that is needed, else 1 and the reason
//
// Exit status: enum torpor_pager_exit. Nothing here depends on the agent being alive.
#include "base_pager.h"
#include "kernel_compat.h"
#include "pager_arguments.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define DEFAULT_IDLE_MS 60000
#define MAX_IDLE_MS (24 * 3600 * 1000)

struct arguments {
    int control_fd;
    int base_fd;
    int header_fd;
    int stats_fd;
    int userfaultfd_device_fd;
    int prefetch_fd;
    int *source_fds;
    uint32_t source_count;
    uint64_t fault_around_bytes;
    uint64_t idle_ms;
    bool self_test;
    const char *control_socket;
    int control_socket_fd;
};

static bool parse_option(int option, struct arguments *arguments) {
    switch (option) {
    case 'c':
        return torpor_parse_descriptor(optarg, &arguments->control_fd);
    case 'b':
        return torpor_parse_descriptor(optarg, &arguments->base_fd);
    case 'e':
        return torpor_parse_descriptor(optarg, &arguments->header_fd);
    case 's':
        return torpor_parse_descriptor(optarg, &arguments->stats_fd);
    case 'u':
        return torpor_parse_descriptor(optarg, &arguments->userfaultfd_device_fd);
    case 'f':
        return torpor_parse_descriptor(optarg, &arguments->source_fds[arguments->source_count++]);
    case 'w':
        return torpor_parse_descriptor(optarg, &arguments->prefetch_fd);
    case 'a':
        return torpor_parse_number(optarg, &arguments->fault_around_bytes);
    case 'i':
        return torpor_parse_number(optarg, &arguments->idle_ms) && arguments->idle_ms <= MAX_IDLE_MS;
    case 'n':
        return true;
    case 'o':
        return (arguments->control_socket = optarg);
    case 'l':
        return torpor_parse_descriptor(optarg, &arguments->control_socket_fd);
    case 't':
        return arguments->self_test = true;
    }
    return false;
}

static const char *parse_arguments(int argc, char **argv, struct arguments *arguments) {
    static const struct option options[] = {{"control-fd", required_argument, NULL, 'c'},
                                            {"base-fd", required_argument, NULL, 'b'},
                                            {"header-fd", required_argument, NULL, 'e'},
                                            {"stats-fd", required_argument, NULL, 's'},
                                            {"userfaultfd-device-fd", required_argument, NULL, 'u'},
                                            {"source-fd", required_argument, NULL, 'f'},
                                            {"prefetch-fd", required_argument, NULL, 'w'},
                                            {"fault-around-bytes", required_argument, NULL, 'a'},
                                            {"idle-ms", required_argument, NULL, 'i'},
                                            {"name", required_argument, NULL, 'n'},
                                            {"control-socket", required_argument, NULL, 'o'},
                                            {"control-socket-fd", required_argument, NULL, 'l'},
                                            {"self-test", no_argument, NULL, 't'},
                                            {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
        if (!parse_option(option, arguments))
            return "invalid option";
    if (optind != argc || arguments->userfaultfd_device_fd < 0)
        return "--userfaultfd-device-fd is needed, and no arguments that are no options";
    if (arguments->self_test)
        return NULL;
    if (arguments->control_fd < 0 || arguments->base_fd < 0 || arguments->header_fd < 0 || arguments->stats_fd < 0)
        return "--control-fd, --base-fd, --header-fd and --stats-fd are needed";
    if (!torpor_is_fault_around(arguments->fault_around_bytes))
        return "--fault-around-bytes is no power of two in 4096 … 2097152";
    return NULL;
}

// Everything the fault path will need is allocated and touched here.
static int prepare_memory(struct torpor_base *base, int stats_fd) {
    struct torpor_pager *reader = &base->reader;
    reader->stats = torpor_pager_stats_open(stats_fd, reader->header.size_bytes);
    if (!reader->stats)
        return torpor_pager_fail(reader, TORPOR_PAGER_USAGE, "statistics memfd has the wrong size, seal or content", errno);
    const uint64_t words = (reader->stats->page_count + 63) / 64;
    reader->buffer = mmap(NULL, reader->fault_around_bytes + TORPOR_PAGE_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    uint64_t *bitmaps =
        mmap(NULL, 2 * words * sizeof *bitmaps, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reader->buffer == MAP_FAILED || bitmaps == MAP_FAILED)
        return torpor_pager_fail(reader, TORPOR_PAGER_USAGE, "memory for the fault path", errno);
    reader->zero = reader->buffer + reader->fault_around_bytes;
    reader->seen = bitmaps;
    base->filled = bitmaps + words;
    atomic_store(&reader->stats->error, 0);
    atomic_store(&reader->stats->error_number, 0);
    return 0;
}

static bool tell_prefetch(void *context, uint64_t first, uint64_t count) {
    return torpor_partner_tell_prefetch(context, first, count);
}

// Faults are served whether or not anybody can ask about them.
static void open_control(struct torpor_base *base, const struct arguments *arguments) {
    base->operators->stats = base->reader.stats;
    base->operators->siblings = &base->sibling_count;
    base->operators->prefetch = tell_prefetch;
    base->operators->context = base;
    const int error = arguments->control_socket ? torpor_control_open(base->operators, arguments->control_socket)
                                                : torpor_control_take(base->operators, arguments->control_socket_fd);
    if (error)
        dprintf(STDERR_FILENO, "torpor-base-pager: no control socket: %s\n", strerrorname_np(-error));
}

static int prepare(struct torpor_base *base, const struct arguments *arguments) {
    struct torpor_pager *reader = &base->reader;
    int status = torpor_pager_read_header(reader, arguments->header_fd, arguments->source_count);
    if (!status)
        status = torpor_pager_check_sources(reader);
    if (!status)
        status = prepare_memory(base, arguments->stats_fd);
    if (!status)
        status = torpor_base_open(base);
    if (!status && !base->sealed && arguments->prefetch_fd >= 0)
        torpor_working_set_read(arguments->prefetch_fd, reader->header.size_bytes, &reader->prefetch);
    if (!status && (arguments->control_socket || arguments->control_socket_fd >= 0))
        open_control(base, arguments);
    return status;
}

// Each sibling has four descriptors. Without the right to more, fewer siblings are taken.
static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int self_test(int userfaultfd_device) {
    const char *missing = torpor_base_selftest(userfaultfd_device);
    if (missing)
        dprintf(STDERR_FILENO, "%s\n", missing);
    return missing != NULL;
}

int main(int argc, char **argv) {
    struct arguments arguments = {-1, -1, -1, -1, -1, -1, NULL, 0, TORPOR_DEFAULT_FAULT_AROUND, DEFAULT_IDLE_MS, false, NULL, -1};
    arguments.source_fds = calloc((size_t)argc, sizeof *arguments.source_fds);
    const char *wrong = arguments.source_fds ? parse_arguments(argc, argv, &arguments) : "memory for the arguments";
    if (wrong) {
        dprintf(STDERR_FILENO, "torpor-base-pager: %s\n", wrong);
        return TORPOR_PAGER_USAGE;
    }
    if (arguments.self_test)
        return self_test(arguments.userfaultfd_device_fd);
    raise_descriptor_limit();
    static struct torpor_control operators = {.listener = -1};
    struct torpor_base base = {.operators = &operators,
                               .reader = {.sources = arguments.source_fds,
                                          .uffd = -1,
                                          .socket = -1,
                                          .vmm_pidfd = -1,
                                          .queue.wake = -1,
                                          .fault_around_bytes = arguments.fault_around_bytes},
                               .base_fd = arguments.base_fd,
                               .userfaultfd_device = arguments.userfaultfd_device_fd,
                               .uffd = -1,
                               .control = arguments.control_fd,
                               .partner = -1,
                               .signals = torpor_pager_open_signals(),
                               .epoll = -1,
                               .idle_ms = (int)arguments.idle_ms};
    if (base.signals < 0) {
        dprintf(STDERR_FILENO, "torpor-base-pager: signalfd: %s\n", strerrorname_np(errno));
        return TORPOR_PAGER_USAGE;
    }
    const int status = prepare(&base, &arguments);
    if (!status)
        return torpor_base_run(&base);
    torpor_base_report_end(&base.reader, status);
    return status;
}
