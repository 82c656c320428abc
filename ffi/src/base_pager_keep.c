// The keeper: takes what the agent sends, passes it on to the server, and keeps a duplicate of everything.
#include "base_pager.h"

#include "base_control.h"
#include "descriptor_passing.h"
#include "pager_counters.h"
#include "torpor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

// A server that dies again and again within this time of its start has a reason that a successor will not change.
#define QUICK_DEATH_NS 10000000000ull
#define MAX_QUICK_DEATHS 5u

enum { JOIN_SOCKET, JOIN_STATS, JOIN_REPLY, JOIN_PIDFD, JOIN_DESCRIPTORS };

static void reply(int socket, int error, int stats_fd) {
    const struct torpor_base_reply answer = {error, stats_fd};
    // An agent that did not wait for the answer loses nothing but its sibling: the VMM's socket closes with it.
    (void)torpor_send_descriptors(socket, &answer, sizeof answer, NULL, 0);
    close(socket);
}

static void join(struct torpor_base *base, const int *received, uint32_t count) {
    const int descriptors[TORPOR_SIBLING_DESCRIPTORS] = {[TORPOR_SIBLING_SOCKET] = received[JOIN_SOCKET],
                                                         [TORPOR_SIBLING_STATS] = received[JOIN_STATS],
                                                         [TORPOR_SIBLING_PIDFD] = count > JOIN_PIDFD ? received[JOIN_PIDFD] : -1};
    struct torpor_sibling *sibling = NULL;
    const uint32_t passed = count > JOIN_PIDFD ? TORPOR_SIBLING_DESCRIPTORS : TORPOR_SIBLING_PIDFD;
    const int error = torpor_sibling_add(base, ++base->last_sibling_id, descriptors, passed, true, &sibling);
    if (!error)
        torpor_partner_tell_join(base, sibling);
    reply(received[JOIN_REPLY], error, error ? -1 : sibling->stats_fd);
}

// Returns 0 or an exit status.
static int take_message(struct torpor_base *base) {
    struct torpor_base_message message = {0};
    int descriptors[TORPOR_MAX_PASSED_DESCRIPTORS];
    uint32_t count;
    const int64_t length = torpor_receive_descriptors(base->control, &message, sizeof message, descriptors, &count, 0, 0);
    if (length < 0)
        return torpor_pager_fail(&base->reader, TORPOR_PAGER_USAGE, "receiving a message of the agent", (int)-length);
    if (length != sizeof message || message.magic != TORPOR_BASE_MAGIC || message.kind != TORPOR_BASE_JOIN ||
        (count != JOIN_PIDFD && count != JOIN_DESCRIPTORS))
        return torpor_pager_fail(&base->reader, TORPOR_PAGER_USAGE, "message of the agent is malformed", 0);
    join(base, descriptors, count);
    return 0;
}

// Returns 0 when the server has ended, or an exit status; *stopping when it was asked to.
static int keep_until_end(struct torpor_base *base, int server_pidfd, bool *stopping) {
    struct pollfd events[4 + TORPOR_CONTROL_POLLFDS] = {{.fd = server_pidfd, .events = POLLIN},
                                                        {.fd = base->control, .events = POLLIN},
                                                        {.fd = base->partner, .events = POLLIN},
                                                        {.fd = base->signals, .events = POLLIN}};
    int error = 0;
    while (!events[0].revents && !error) {
        const int timeout_ms = torpor_control_watch(base->operators, events + 4);
        if (poll(events, sizeof events / sizeof *events, timeout_ms) < 0) {
            if (errno != EINTR)
                return torpor_pager_fail(&base->reader, TORPOR_PAGER_USAGE, "poll", errno);
            continue;
        }
        torpor_control_step(base->operators, events + 4);
        if (events[2].revents)
            torpor_partner_take_leaves(base);
        if (events[2].revents & POLLHUP)
            events[2].fd = -1;
        if (events[3].revents) {
            *stopping = true;
            (void)torpor_pidfd_signal(server_pidfd, SIGTERM);
            events[1].fd = events[3].fd = -1; // who comes now hears that this is the end
        } else if (events[1].revents && !events[0].revents) {
            error = take_message(base);
        }
    }
    return error;
}

// Returns an exit status, or TORPOR_BASE_ALONE.
static int after_end(struct torpor_base *base, const siginfo_t *end, uint64_t lived_ns) {
    static uint32_t quick_deaths;
    if (end->si_code == CLD_EXITED && (end->si_status || !base->sibling_count))
        return end->si_status;
    if (end->si_code == CLD_EXITED)
        return TORPOR_BASE_ALONE; // it had nobody to serve, and one came at the last moment
    quick_deaths = lived_ns < QUICK_DEATH_NS ? quick_deaths + 1 : 0;
    if (quick_deaths > MAX_QUICK_DEATHS)
        return torpor_pager_fail(&base->reader, TORPOR_PAGER_USERFAULTFD, "what serves is killed again and again", 0);
    dprintf(STDERR_FILENO, "torpor-base-pager: the server was killed (signal %d); another one takes its place\n", end->si_status);
    return TORPOR_BASE_ALONE;
}

int torpor_base_keep(struct torpor_base *base, int server) {
    const uint64_t start_ns = now_ns();
    const int server_pidfd = torpor_pidfd_open(server);
    if (server_pidfd < 0)
        return torpor_pager_fail(&base->reader, TORPOR_PAGER_USAGE, "pidfd_open", -server_pidfd);
    bool stopping = false;
    int status = keep_until_end(base, server_pidfd, &stopping);
    if (status)
        (void)torpor_pidfd_signal(server_pidfd, SIGKILL);
    siginfo_t end = {0};
    while (waitid(P_PIDFD, (id_t)server_pidfd, &end, WEXITED) && errno == EINTR)
        ;
    close(server_pidfd);
    torpor_partner_take_leaves(base);
    return status || stopping ? status : after_end(base, &end, now_ns() - start_ns);
}
