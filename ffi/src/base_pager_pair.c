// Keeper and server. The first process becomes the keeper and forks the server; both have the files, the base's writable mapping (which
// cannot be made again: the base is sealed) and the siblings' descriptors. So each can replace the other:
//
//   server killed: the keeper forks another one, which finds what is in the base, and each VMM's message still in its socket. Faults that
//                  the dead one had read are delivered again. The siblings go on sharing; the agent need not be there.
//   keeper killed: the server becomes the keeper of a server that it forks.
//   both killed at once: only an agent can help (`sealed` in base_pager.h).
#include "base_pager.h"

#include "pager_counters.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAGER_NICE (-10)

static int watch(struct torpor_base *base, int fd, struct torpor_watch *what) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    return epoll_ctl(base->epoll, EPOLL_CTL_ADD, fd, &event) ? errno : 0;
}

static int prepare_events(struct torpor_base *base) {
    base->on_partner = (struct torpor_watch){TORPOR_WATCH_PARTNER, NULL};
    base->on_signals = (struct torpor_watch){TORPOR_WATCH_SIGNALS, NULL};
    base->epoll = epoll_create1(EPOLL_CLOEXEC);
    int error = base->epoll < 0 ? errno : watch(base, base->partner, &base->on_partner);
    if (!error)
        error = watch(base, base->signals, &base->on_signals);
    return error ? torpor_pager_fail(&base->reader, TORPOR_PAGER_USAGE, "epoll", error) : 0;
}

// Takes over the siblings of an earlier server.
static void take_over(struct torpor_base *base) {
    for (struct torpor_sibling *sibling = base->siblings; sibling; sibling = sibling->next) {
        atomic_fetch_add(&sibling->stats->adoptions, 1);
        const int error = torpor_sibling_watch(base, sibling);
        if (error)
            torpor_sibling_leave(base, sibling, "epoll_ctl", error);
    }
    torpor_base_free_left(base);
}

static int serve(struct torpor_base *base, bool successor) {
    prctl(PR_SET_NAME, "torpor-base-pager");
    // Every fault holds up a vCPU, and each takes microseconds. Without the right to it, the pager serves at its own turn.
    (void)setpriority(PRIO_PROCESS, 0, PAGER_NICE);
    struct torpor_pager_stats *stats = base->reader.stats;
    torpor_pager_stats_seen(stats, base->reader.seen);
    atomic_fetch_add(&stats->adoptions, successor);
    int status = torpor_base_register(base);
    if (!status)
        status = prepare_events(base);
    if (status)
        return status;
    if (successor)
        take_over(base);
    atomic_store(&stats->pid, (uint32_t)getpid());
    return torpor_base_serve(base);
}

static void close_descriptor(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

// What only a server has. Its successor is forked from this process and makes its own.
static void stop_serving(struct torpor_base *base) {
    dprintf(STDERR_FILENO, "torpor-base-pager: the keeper is gone; another one takes its place\n");
    close_descriptor(&base->epoll);
    close_descriptor(&base->uffd);
    for (struct torpor_sibling *sibling = base->siblings; sibling; sibling = sibling->next) {
        close_descriptor(&sibling->uffd);
        if (sibling->id > base->last_sibling_id)
            base->last_sibling_id = sibling->id;
    }
    (void)setpriority(PRIO_PROCESS, 0, 0);
}

void torpor_base_report_end(struct torpor_pager *reader, int status) {
    if (reader->stats) {
        atomic_store(&reader->stats->error, (uint32_t)status);
        atomic_store(&reader->stats->error_number, reader->failure_errno);
        atomic_store(&reader->stats->state, status ? TORPOR_PAGER_FAILED : TORPOR_PAGER_STOPPED);
    }
    if (status)
        dprintf(STDERR_FILENO, "torpor-base-pager: %s%s%s\n", reader->failure, reader->failure_errno ? ": " : "",
                reader->failure_errno ? strerrorname_np(reader->failure_errno) : "");
}

int torpor_base_run(struct torpor_base *base) {
    for (bool successor = false;; successor = true) {
        int sockets[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
            return torpor_pager_fail(&base->reader, TORPOR_PAGER_USAGE, "socketpair", errno);
        const pid_t server = fork();
        if (server < 0)
            return torpor_pager_fail(&base->reader, TORPOR_PAGER_USAGE, "fork", errno);
        base->partner = sockets[server ? 0 : 1];
        close(sockets[server ? 1 : 0]);
        if (server)
            prctl(PR_SET_NAME, "torpor-keeper");
        else
            torpor_control_drop_clients(base->operators);
        int status = server ? torpor_base_keep(base, server) : serve(base, successor);
        close_descriptor(&base->partner);
        const bool last = server || status == TORPOR_BASE_ALONE; // nobody else is there to clean up
        if (status == TORPOR_BASE_ALONE && !base->sibling_count)
            status = TORPOR_PAGER_OK;
        if (status != TORPOR_BASE_ALONE) {
            if (last)
                torpor_control_close(base->operators);
            if (!server || base->reader.failure) // else the server has said how it ended
                torpor_base_report_end(&base->reader, status);
            return status;
        }
        if (!server)
            stop_serving(base);
    }
}
