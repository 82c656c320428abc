#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "freezer.h"
#include "machine.h"
#include "platform.h"
#include "prepare.h"
#include "process.h"
#include "request.h"
#include "worker.h"

enum { EVENTS_PER_WAIT = 64, PUMP_ROUNDS = 8 };

static const uint64_t SMALLEST_LOG_BUDGET = 16u << 20;

// The edges of the round that is being handed out; agent_unwatch strikes out those of a source that is going away.
static struct epoll_event round_events[EVENTS_PER_WAIT];
static int round_count;

_Noreturn static void die(const char *what) {
    fprintf(stderr, "torpor-agent: %s: %s\n", what, strerror(errno));
    exit(1);
}

bool agent_watch(struct agent *agent, int fd, uint32_t events, struct event_source *source) {
    struct epoll_event event = {.events = events | EPOLLET, .data.ptr = source};
    return epoll_ctl(agent->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

void agent_unwatch(struct agent *agent, int fd, struct event_source *source) {
    // A descriptor that was never watched gives ENOENT, which is as good.
    epoll_ctl(agent->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    for (int i = 0; i < round_count; i++) {
        if (round_events[i].data.ptr == source) round_events[i].data.ptr = NULL;
    }
}

static void channel_ready(struct event_source *source, uint32_t events) {
    struct agent *agent = (struct agent *)((char *)source - offsetof(struct agent, channel_source));
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) agent->channel.readable = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) agent->channel.writable = true;
}

static void signal_ready(struct event_source *source, uint32_t events) {
    (void)events;
    ((struct agent *)((char *)source - offsetof(struct agent, signal_source)))->children_changed = true;
}

void agent_initialize(struct agent *agent, int port_fd) {
    memset(agent, 0, offsetof(struct agent, channel));
    channel_initialize(&agent->channel, port_fd);
    if (getrandom(&agent->boot_id, sizeof agent->boot_id, 0) < 0) die("getrandom");
    uint64_t share = machine_memory_bytes() / 8;
    agent->log_budget = share > SMALLEST_LOG_BUDGET ? share : SMALLEST_LOG_BUDGET;
    signal(SIGPIPE, SIG_IGN);
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    agent->signal_fd = signalfd(-1, &children, SFD_NONBLOCK | SFD_CLOEXEC);
    if (agent->signal_fd < 0) die("signalfd");
    agent->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (agent->epoll_fd < 0) die("epoll");
    agent->channel_source.ready = channel_ready;
    agent->signal_source.ready = signal_ready;
    if (!agent_watch(agent, port_fd, EPOLLIN | EPOLLOUT, &agent->channel_source)) die("watch port");
    if (!agent_watch(agent, agent->signal_fd, EPOLLIN, &agent->signal_source)) die("watch signals");
    agent->prepare.pipe = -1;
    freezer_initialize(agent);
}

static void reap_children(struct agent *agent) {
    struct signalfd_siginfo information;
    agent->children_changed = false;
    while (read(agent->signal_fd, &information, sizeof information) > 0) continue;
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0) return;
        if (!worker_reaped(agent, pid)) process_reaped(agent, pid, status);
    }
}

static void hang_up(struct agent *agent) {
    stream_close_all(agent);
    channel_reset(&agent->channel);
    agent->greeted = false;
    if (!platform_port_survives_hangup()) agent->finished = true;
}

static bool receive_requests(struct agent *agent) {
    bool progress = false;
    if (agent->channel.readable && channel_has_room_for_reply(&agent->channel)) {
        enum channel_state state = channel_receive(&agent->channel);
        if (state == CHANNEL_HANGUP) {
            hang_up(agent);
            return false;
        }
        progress = state == CHANNEL_PROGRESS;
    }
    uint8_t *payload;
    size_t length;
    while (channel_has_room_for_reply(&agent->channel) &&
           (payload = channel_next_frame(&agent->channel, &length)) != NULL) {
        request_handle(agent, payload, length);
        progress = true;
    }
    return progress;
}

// Lets every stream send in turn, one frame each, so that none waits for another's megabytes.
static bool pump_streams(struct agent *agent) {
    bool progress = false;
    unsigned start = agent->pump_start++;
    for (unsigned i = 0; i < MAX_STREAMS; i++) {
        struct stream *stream = &agent->streams[(start + i) % MAX_STREAMS];
        if (stream->id == 0 || !stream->kind || !stream->kind->pump) continue;
        if (!channel_has_room_for_reply(&agent->channel)) break;
        if (stream->kind->pump(agent, stream)) progress = true;
    }
    return progress;
}

static void flush(struct agent *agent) {
    if (agent->channel.writable && channel_flush(&agent->channel) == CHANNEL_HANGUP) hang_up(agent);
}

// Everything that can be done without waiting, in bounded portions. Returns true when there is more.
static bool agent_step(struct agent *agent) {
    bool more = receive_requests(agent);
    if (agent->children_changed) reap_children(agent);
    worker_kill_overdue(agent);
    freezer_thaw_overdue(agent);
    for (int round = 0; round < PUMP_ROUNDS; round++) {
        bool progress = process_step_all(agent);
        if (pump_streams(agent)) progress = true;
        flush(agent);
        if (!progress) break;
        if (round == PUMP_ROUNDS - 1) more = true;
    }
    return more;
}

// Milliseconds until the nearest deadline, -1 for none.
static int wait_time(struct agent *agent) {
    const uint64_t deadlines[] = {process_next_deadline(agent), worker_next_deadline(agent),
                                  freezer_next_deadline(agent), prepare_next_deadline(agent)};
    uint64_t deadline = 0;
    for (size_t i = 0; i < sizeof deadlines / sizeof *deadlines; i++) {
        if (deadlines[i] && (!deadline || deadlines[i] < deadline)) deadline = deadlines[i];
    }
    if (!deadline) return -1;
    uint64_t now = clock_monotonic_ns();
    if (deadline <= now) return 0;
    uint64_t milliseconds = (deadline - now) / 1000000u + 1;
    return milliseconds < 3600000u ? (int)milliseconds : 3600000;
}

bool agent_round(struct agent *agent, bool wait) {
    round_count = epoll_wait(agent->epoll_fd, round_events, EVENTS_PER_WAIT, wait ? wait_time(agent) : 0);
    if (round_count < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < round_count; i++) {
        struct event_source *source = round_events[i].data.ptr;
        if (source) source->ready(source, round_events[i].events);
    }
    round_count = 0;
    return agent_step(agent);
}

void agent_run(struct agent *agent) {
    bool more = true;
    while (!agent->finished) more = agent_round(agent, !more);
}
