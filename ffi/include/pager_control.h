// The control socket of a pager: an operator, or a second agent, asks for statistics or for pages to be fetched ahead. A unix stream
// socket with mode 0600; lines end with '\n', each is answered with one line of JSON:
//
//   stats                   what this pager has done (pager_stats_json.c)
//   prefetch FIRST COUNT    fetches pages [FIRST, FIRST + COUNT) while no fault waits; zero pages are left out  {"queued":COUNT}
//
// Anything else: {"error":CODE} with unknown_command, malformed, out_of_range, busy (too many ranges wait) or line_too_long, after which the
// connection ends. Docs: ffi/README.md.
//
// Nothing here is on the fault path. torpor-pager runs it in a thread that only reads the counters and passes ranges on through a
// queue without locks; of torpor-base-pager it is the keeper that does. All calls are nonblocking, all memory is fixed; who does not read
// its answer, or says nothing, for TORPOR_CONTROL_PATIENCE_MS is dropped.
#pragma once

#include "pager_stats.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#define TORPOR_CONTROL_CLIENTS 8u
#define TORPOR_CONTROL_POLLFDS (TORPOR_CONTROL_CLIENTS + 1)
#define TORPOR_CONTROL_LINE 64u // bytes of a command, with its '\n'
#define TORPOR_CONTROL_ANSWER 8192u
#define TORPOR_CONTROL_PATIENCE_MS 5000

enum torpor_control_kind { TORPOR_CONTROL_STATS, TORPOR_CONTROL_PREFETCH };

struct torpor_control_command {
    enum torpor_control_kind kind;
    uint64_t first; // page
    uint64_t count;
};

// Parses one line without its '\n'. Returns NULL or an error code. Numbers are decimal, without sign or leading zeros.
const char *torpor_control_parse(const char *line, size_t length, uint64_t page_count, struct torpor_control_command *command);

struct torpor_control_client {
    int fd; // -1: free
    bool ended; // nothing more is to be read
    uint32_t in_length, out_length, out_done;
    uint64_t deadline_ns; // CLOCK_MONOTONIC
    char in[TORPOR_CONTROL_LINE];
    char out[TORPOR_CONTROL_ANSWER];
};

struct torpor_control {
    int listener; // -1: there is no socket, and nothing to do
    const char *path; // NULL: somebody else's to remove
    struct torpor_pager_stats *stats;
    const uint32_t *siblings; // of a base; NULL: a pager of one sandbox
    // Queues pages; returns false when too many wait already.
    bool (*prefetch)(void *context, uint64_t first, uint64_t count);
    void *context;
    struct torpor_control_client clients[TORPOR_CONTROL_CLIENTS];
};

// Makes the socket, in the place of what a dead pager has left there. Returns 0 or -errno; the rest of `control` is set by the caller.
int torpor_control_open(struct torpor_control *control, const char *path);
// The same with a socket that listens already, which is the control's from now on.
int torpor_control_take(struct torpor_control *control, int listener);
// Removes the socket's name, if it has made it.
void torpor_control_close(struct torpor_control *control);
// Closes a forked process's share of the connections.
void torpor_control_drop_clients(struct torpor_control *control);
// Fills fds[TORPOR_CONTROL_POLLFDS] for poll and returns its timeout in milliseconds, -1 for none.
int torpor_control_watch(struct torpor_control *control, struct pollfd *fds);
// Does what poll has found.
void torpor_control_step(struct torpor_control *control, const struct pollfd *fds);
// Takes what a client has sent (client->in, in_length) and writes the answer to its first complete line, if it has no answer to read yet.
void torpor_control_answer(struct torpor_control *control, struct torpor_control_client *client);
// A thread that does all this until the process ends. Returns 0 or an errno.
int torpor_control_start_thread(struct torpor_control *control);

// Writes the statistics as one line of JSON with its '\n'. `siblings` as above. Returns its length, or 0 when `capacity` is too small.
uint32_t torpor_pager_stats_json(char *text, uint32_t capacity, struct torpor_pager_stats *stats, const uint32_t *siblings);
