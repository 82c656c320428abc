#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "process.h"

// The pids at the moment of the request; one that vanishes before its turn is left out.
struct listing {
    unsigned next, count;
    uint32_t pids[];
};

static void send_info(struct agent *agent, struct stream *stream, struct process *process) {
    Guest__V1__ProcessExited exited = GUEST__V1__PROCESS_EXITED__INIT;
    Guest__V1__ProcessInfo info = GUEST__V1__PROCESS_INFO__INIT;
    info.pid = process->pid;
    info.argv = process->argv;
    info.n_argv = process->argc;
    info.user = process->user;
    info.working_directory = process->working_directory;
    info.running = process->state != PROCESS_EXITED;
    info.started_unix_ms = process->started_unix_ms;
    if (!info.running) {
        process_fill_exited(process, &exited);
        info.exited = &exited;
    }
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_PROCESS_INFO;
    frame.process_info = &info;
    stream_send(agent, stream, &frame);
}

static bool pump_listing(struct agent *agent, struct stream *stream) {
    struct listing *listing = stream->owner;
    if (!channel_has_room_for_data(&agent->channel)) return false;
    if (listing->next == listing->count) {
        stream_add_span(stream, "guest.list_processes", stream->opened_ns, clock_monotonic_ns());
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_OK, 0, NULL);
        return true;
    }
    struct process *process = process_find(agent, listing->pids[listing->next++]);
    if (process) send_info(agent, stream, process);
    return true;
}

static void close_listing(struct agent *agent, struct stream *stream) {
    (void)agent;
    free(stream->owner);
}

static const struct stream_kind listing_kind = {.pump = pump_listing, .close = close_listing};

void process_list(struct agent *agent, struct stream *stream) {
    struct listing *listing = calloc(1, sizeof *listing + agent->process_count * sizeof listing->pids[0]);
    if (!listing) {
        stream_end_errno(agent, stream, ENOMEM, "list processes");
        return;
    }
    for (struct process *process = agent->processes; process; process = process->next) {
        if (process->state != PROCESS_STARTING) listing->pids[listing->count++] = process->pid;
    }
    stream->kind = &listing_kind;
    stream->owner = listing;
}
