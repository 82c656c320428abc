// Work that may block, in a child of its own: it becomes the user, works, sends frames through a socket and dies. The
// agent only passes frames on, within the stream's credit, and can kill it at any time.
#ifndef TORPOR_WORKER_H
#define TORPOR_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "account.h"
#include "agent.h"

// Inside the child: where its frames go.
struct worker_output {
    int socket;
    uint32_t stream_id;
    const char *span_name;
    uint64_t opened_ns;
};

struct worker_request {
    // Span of the whole work; a literal.
    const char *span_name;
    // NULL: stay root. Else a name from /etc/passwd ("" means "user").
    const char *user;
    // Runs in the child as the user and returns 0 or an errno; `account` is NULL without a user. May call
    // worker_fail itself for a message of its own.
    int (*run)(struct worker_output *output, const struct account *account, const void *request);
    const void *request;
    const char *failure;
};

// Starts the work; takes over the stream.
void worker_start(struct agent *agent, struct stream *stream, const struct worker_request *request);

// Notes a reaped child. false when it is no worker.
bool worker_reaped(struct agent *agent, pid_t pid);

// Kills children that did not end in time after their stream had closed.
void worker_kill_overdue(struct agent *agent);

// When worker_kill_overdue is due (CLOCK_MONOTONIC, ns), or 0.
uint64_t worker_next_deadline(const struct agent *agent);

// For the child. data_bytes: what of the frame counts as flow-controlled data.
void worker_send(struct worker_output *output, Guest__V1__Frame *frame, uint32_t data_bytes);
_Noreturn void worker_fail(struct worker_output *output, int errno_value, const char *what);

struct worker_chunk {
    size_t length;
    bool eof;
    uint8_t data[MAX_DATA_BYTES];
};

// For the child: waits for the next chunk of the host. false: the host wants no more (cancelled or gone).
bool worker_receive(struct worker_output *output, struct worker_chunk *chunk);

#endif
