// The agent's state: one thread, one event loop. Nothing in it blocks; work that may block (file systems) is done by
// worker children, so exec answers while a disk hangs.
#ifndef TORPOR_AGENT_H
#define TORPOR_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "channel.h"
#include "bounds.h"
#include "stream.h"

#define AGENT_VERSION "0.1.0"
enum { AGENT_PROTOCOL_VERSION = 2 };

struct process;
struct worker;

// A descriptor in the epoll set, always edge-triggered: `ready` only notes the edge, work happens in agent_step.
struct event_source {
    void (*ready)(struct event_source *source, uint32_t events);
};

// See freezer.h.
struct freezer {
    struct event_source source;
    // cgroup.events of the user's cgroup, -1 before the first freeze.
    int events_fd;
    // cgroup.freeze, -1 before the first freeze. It stays open: a resumed guest waits for its thaw, and looking up a path would
    // make it wait longer.
    int state_fd;
    bool changed;
    bool requested;
    uint64_t thaw_at_ns;
};

// The reclaim steps and the freeze.
enum { PREPARE_STEPS = 5 };

// The PreparePause under way, see prepare.h.
struct prepare {
    struct event_source source;
    // NULL: none.
    struct stream *stream;
    uint32_t caps_ms[PREPARE_STEPS], watchdog_ms;
    unsigned step;
    bool running;
    uint64_t started_ns, deadline_ns, free_before;
    pid_t pid;
    int pipe;
    bool readable;
};

struct agent {
    int epoll_fd;
    int signal_fd;
    struct event_source channel_source, signal_source;
    bool children_changed;
    // HelloReply was sent; before it every frame but Hello is dropped.
    bool greeted;
    bool finished;
    uint64_t epoch;
    uint64_t boot_id;
    struct stream streams[MAX_STREAMS];
    // Where the next round of pumping starts, so that no stream is favoured.
    unsigned pump_start;
    struct process *processes;
    unsigned process_count, finished_count;
    struct worker *workers;
    unsigned worker_count;
    struct freezer freezer;
    struct prepare prepare;
    // Bytes that all output logs hold, and what they may hold together.
    uint64_t log_bytes, log_budget;
    struct channel channel;
};

// port_fd: non-blocking, both directions. Exits the program when the kernel refuses a basic resource.
void agent_initialize(struct agent *agent, int port_fd);

// Runs until the port hangs up for good (platform_port_survives_hangup says no).
void agent_run(struct agent *agent);

// One turn of the loop. wait: until something happens. Returns true when there is more to do at once.
bool agent_round(struct agent *agent, bool wait);

// Adds a descriptor to the epoll set. false with errno when the kernel refuses.
bool agent_watch(struct agent *agent, int fd, uint32_t events, struct event_source *source);

// Must precede close() and freeing of the source: forgets edges of this round as well.
void agent_unwatch(struct agent *agent, int fd, struct event_source *source);

#endif
