// torpor-pager: serves the page faults of one resumed sandbox from the extents of its snapshot.
//
//   torpor-pager --handshake-fd N --header-fd N --stats-fd N [--source-fd N]... [--vmm-pidfd N]
//                [--fault-around-bytes 65536] [--tracking] [--prefetch-fd N]
//                [--control-socket PATH | --control-socket-fd N]
//
//   --handshake-fd        connected unix socket: one message of the VMM (include/handshake.h) with the userfaultfd
//   --header-fd           extent header; source k of the header is the k-th --source-fd
//   --stats-fd            statistics memfd (include/pager_stats.h)
//   --vmm-pidfd           ends when this process ends; without it, when the other end of the handshake socket closes
//   --fault-around-bytes  power of two, 4096 … 2097152
//   --prefetch-fd         working set (include/working_set.h): installed while no fault waits
//   --control-socket      path of a socket to be made, for questions of an operator (include/pager_control.h)
//   --control-socket-fd   the same, of a socket that listens already
//   --tracking            the VMM armed write protection, but its message cannot say so
//
// Exit status: enum torpor_pager_exit. Nothing here depends on the agent being alive.
#include "descriptor_passing.h"
#include "kernel_compat.h"
#include "pager.h"
#include "pager_arguments.h"
#include "pager_control.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGER_NICE (-10)

struct arguments {
    int handshake_fd;
    int header_fd;
    int stats_fd;
    int vmm_pidfd;
    int prefetch_fd;
    int *source_fds;
    uint32_t source_count;
    uint64_t fault_around_bytes;
    bool tracking;
    const char *control_socket;
    int control_socket_fd;
};

static const char *parse_arguments(int argc, char **argv, struct arguments *arguments) {
    static const struct option options[] = {
        {"handshake-fd", required_argument, NULL, 'h'}, {"header-fd", required_argument, NULL, 'e'},
        {"stats-fd", required_argument, NULL, 's'},     {"source-fd", required_argument, NULL, 'f'},
        {"vmm-pidfd", required_argument, NULL, 'p'},    {"fault-around-bytes", required_argument, NULL, 'a'},
        {"tracking", no_argument, NULL, 't'},           {"prefetch-fd", required_argument, NULL, 'w'},
        {"control-socket", required_argument, NULL, 'c'},
        {"control-socket-fd", required_argument, NULL, 'l'}, {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        bool valid = false;
        if (option == 'h')
            valid = torpor_parse_descriptor(optarg, &arguments->handshake_fd);
        else if (option == 'e')
            valid = torpor_parse_descriptor(optarg, &arguments->header_fd);
        else if (option == 's')
            valid = torpor_parse_descriptor(optarg, &arguments->stats_fd);
        else if (option == 'f')
            valid = torpor_parse_descriptor(optarg, &arguments->source_fds[arguments->source_count++]);
        else if (option == 'p')
            valid = torpor_parse_descriptor(optarg, &arguments->vmm_pidfd);
        else if (option == 'a')
            valid = torpor_parse_number(optarg, &arguments->fault_around_bytes);
        else if (option == 'w')
            valid = torpor_parse_descriptor(optarg, &arguments->prefetch_fd);
        else if (option == 'c')
            valid = (arguments->control_socket = optarg);
        else if (option == 'l')
            valid = torpor_parse_descriptor(optarg, &arguments->control_socket_fd);
        else if (option == 't')
            valid = arguments->tracking = true;
        if (!valid)
            return "invalid option";
    }
    if (optind != argc || arguments->handshake_fd < 0 || arguments->header_fd < 0 || arguments->stats_fd < 0)
        return "--handshake-fd, --header-fd and --stats-fd are needed, and no other arguments";
    if (!torpor_is_fault_around(arguments->fault_around_bytes))
        return "--fault-around-bytes is no power of two in 4096 … 2097152";
    return NULL;
}

// Everything the fault path will need is allocated and touched here.
static int prepare_memory(struct torpor_pager *pager, int stats_fd) {
    pager->stats = torpor_pager_stats_open(stats_fd, pager->header.size_bytes);
    if (!pager->stats)
        return torpor_pager_fail(pager, TORPOR_PAGER_USAGE, "statistics memfd has the wrong size, seal or content", errno);
    const uint64_t around = pager->fault_around_bytes;
    const uint64_t words = (pager->stats->page_count + 63) / 64;
    unsigned char *memory = mmap(NULL, 2 * around, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    uint64_t *bitmaps =
        mmap(NULL, 2 * words * sizeof *bitmaps, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || bitmaps == MAP_FAILED)
        return torpor_pager_fail(pager, TORPOR_PAGER_USAGE, "memory for the fault path", errno);
    pager->buffer = memory;
    pager->zero = memory + around;
    pager->seen = bitmaps;
    pager->present = bitmaps + words;
    torpor_pager_stats_seen(pager->stats, pager->seen);
    atomic_store(&pager->stats->pid, (uint32_t)getpid());
    atomic_store(&pager->stats->error, 0);
    atomic_store(&pager->stats->error_number, 0);
    return 0;
}

static bool queue_prefetch(void *context, uint64_t first, uint64_t count) {
    return prefetch_put(context, first, count);
}

// Faults are served whether or not anybody can ask about them.
static void open_control(struct torpor_pager *pager, struct torpor_control *control, const struct arguments *arguments) {
    control->stats = pager->stats;
    control->prefetch = queue_prefetch;
    control->context = &pager->queue;
    int error = arguments->control_socket ? torpor_control_open(control, arguments->control_socket)
                                          : torpor_control_take(control, arguments->control_socket_fd);
    if (!error && (error = -torpor_control_start_thread(control)))
        torpor_control_close(control);
    if (error)
        dprintf(STDERR_FILENO, "torpor-pager: no control socket: %s\n", strerrorname_np(-error));
}

// Returns 0, or an exit status; *gone when there will be no handshake.
static int wait_for_handshake(struct torpor_pager *pager, bool *gone) {
    atomic_store(&pager->stats->state, TORPOR_PAGER_WAITING);
    struct pollfd events[] = {{.fd = pager->socket, .events = POLLIN},
                              {.fd = pager->signals, .events = POLLIN},
                              {.fd = pager->vmm_pidfd, .events = POLLIN}};
    while (poll(events, sizeof events / sizeof *events, -1) < 0)
        if (errno != EINTR)
            return torpor_pager_fail(pager, TORPOR_PAGER_USERFAULTFD, "poll", errno);
    *gone = events[1].revents || events[2].revents;
    return 0;
}

static int receive_handshake(struct torpor_pager *pager, bool tracking, bool *gone) {
    int status = wait_for_handshake(pager, gone);
    if (status || *gone)
        return status;
    char text[TORPOR_HANDSHAKE_BYTES];
    int descriptors[TORPOR_MAX_PASSED_DESCRIPTORS];
    uint32_t count;
    const int64_t length = torpor_receive_descriptors(pager->socket, text, sizeof text, descriptors, &count, 0, 0);
    if (length < 0)
        return torpor_pager_fail(pager, TORPOR_PAGER_USERFAULTFD, "receiving the handshake", (int)-length);
    *gone = !length;
    if (*gone)
        return 0;
    const char *wrong = torpor_handshake_parse(text, (size_t)length, &pager->handshake);
    if (!wrong && count != 1)
        wrong = "handshake does not carry exactly one descriptor";
    if (!wrong && !torpor_handshake_covers(&pager->handshake, pager->header.size_bytes))
        wrong = "regions do not cover the memory of the header";
    if (wrong)
        return torpor_pager_fail(pager, TORPOR_PAGER_USERFAULTFD, wrong, 0);
    pager->uffd = descriptors[0];
    pager->handshake.tracking |= tracking;
    const int flags = fcntl(pager->uffd, F_GETFL); // poll(2) of a blocking userfaultfd only reports an error
    if (flags < 0 || fcntl(pager->uffd, F_SETFL, flags | O_NONBLOCK))
        return torpor_pager_fail(pager, TORPOR_PAGER_USERFAULTFD, "O_NONBLOCK", errno);
    pager->stats->base_host_virt_addr = pager->handshake.regions[0].base_host_virt_addr;
    pager->stats->region_count = pager->handshake.region_count;
    pager->stats->tracking = pager->handshake.tracking;
    pager->stats->uffd_fd = pager->handshake.uffd_fd;
    return 0;
}

static int run(struct torpor_pager *pager, const struct arguments *arguments, struct torpor_control *control) {
    bool gone = false;
    int status = torpor_pager_read_header(pager, arguments->header_fd, arguments->source_count);
    if (!status)
        status = torpor_pager_check_sources(pager);
    if (!status)
        status = prepare_memory(pager, arguments->stats_fd);
    if (!status && arguments->prefetch_fd >= 0)
        torpor_working_set_read(arguments->prefetch_fd, pager->header.size_bytes, &pager->prefetch);
    if (!status && (arguments->control_socket || arguments->control_socket_fd >= 0))
        open_control(pager, control, arguments);
    if (!status)
        status = receive_handshake(pager, arguments->tracking, &gone);
    return status || gone ? status : torpor_pager_serve(pager);
}

static void report_end(struct torpor_pager *pager, int status) {
    if (pager->stats) {
        atomic_store(&pager->stats->error, (uint32_t)status);
        atomic_store(&pager->stats->error_number, pager->failure_errno);
        atomic_store(&pager->stats->state, status ? TORPOR_PAGER_FAILED : TORPOR_PAGER_STOPPED);
    }
    if (status)
        dprintf(STDERR_FILENO, "torpor-pager: %s%s%s\n", pager->failure, pager->failure_errno ? ": " : "",
                pager->failure_errno ? strerrorname_np(pager->failure_errno) : "");
}

int main(int argc, char **argv) {
    struct arguments arguments = {-1, -1, -1, -1, -1, NULL, 0, TORPOR_DEFAULT_FAULT_AROUND, false, NULL, -1};
    arguments.source_fds = calloc((size_t)argc, sizeof *arguments.source_fds);
    const char *wrong = arguments.source_fds ? parse_arguments(argc, argv, &arguments) : "memory for the arguments";
    if (wrong) {
        dprintf(STDERR_FILENO, "torpor-pager: %s\n", wrong);
        return TORPOR_PAGER_USAGE;
    }
    prctl(PR_SET_NAME, "torpor-pager");
    // Every fault holds up a vCPU, and each takes microseconds. Without the right to it, the pager serves at its own turn.
    (void)setpriority(PRIO_PROCESS, 0, PAGER_NICE);
    struct torpor_pager pager = {.sources = arguments.source_fds,
                                 .uffd = -1,
                                 .socket = arguments.handshake_fd,
                                 .vmm_pidfd = arguments.vmm_pidfd,
                                 .signals = torpor_pager_open_signals(),
                                 .queue.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                 .fault_around_bytes = arguments.fault_around_bytes};
    static struct torpor_control control = {.listener = -1};
    if (pager.signals < 0 || pager.queue.wake < 0) {
        dprintf(STDERR_FILENO, "torpor-pager: signalfd, eventfd: %s\n", strerrorname_np(errno));
        return TORPOR_PAGER_USAGE;
    }
    const int status = run(&pager, &arguments, &control);
    torpor_control_close(&control);
    report_end(&pager, status);
    return status;
}
