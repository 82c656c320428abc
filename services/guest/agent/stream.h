// One request of the host: an id, credit in both directions, and the kind of work behind it.
#ifndef TORPOR_STREAM_H
#define TORPOR_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "guest.pb-c.h"
#include "bounds.h"

struct agent;
struct stream;

// What a kind of request does with its stream. NULL members: nothing.
struct stream_kind {
    // Sends what can be sent now. Returns true when it did something and may be called again.
    bool (*pump)(struct agent *agent, struct stream *stream);
    // A StdinChunk, FileChunk or PortChunk arrived, within the credit.
    void (*receive)(struct agent *agent, struct stream *stream, const Guest__V1__Frame *frame);
    // The stream is over (End sent, cancelled, or the host is gone): releases what it holds.
    void (*close)(struct agent *agent, struct stream *stream);
};

struct stream_span {
    const char *name;
    uint64_t start_ns, end_ns;
};

struct stream {
    // 0: free slot.
    uint32_t id;
    const struct stream_kind *kind;
    void *owner;
    uint64_t opened_ns;
    uint64_t send_credit, receive_credit;
    // Earliest moment of a span that is not finished yet.
    struct stream_span spans[MAX_SPANS];
    unsigned span_count;
};

// NULL when there is none.
struct stream *stream_find(struct agent *agent, uint32_t id);

// Opens a stream with its initial credit. NULL when all slots are taken.
struct stream *stream_open(struct agent *agent, uint32_t id);

// Sends an event on the stream; sets the frame's stream id.
void stream_send(struct agent *agent, const struct stream *stream, Guest__V1__Frame *frame);

// Records a finished step; name must be a literal.
void stream_add_span(struct stream *stream, const char *name, uint64_t start_ns, uint64_t end_ns);

// Sends End with the recorded spans and closes the stream. message may be NULL; errno_value 0 when none.
void stream_end(struct agent *agent, struct stream *stream, Guest__V1__StatusCode code, int errno_value, const char *message);

// Ends with the status that an errno stands for; `what` names the step that failed.
void stream_end_errno(struct agent *agent, struct stream *stream, int errno_value, const char *what);

// Sends End for an id that has no stream.
void stream_refuse(struct agent *agent, uint32_t id, Guest__V1__StatusCode code, const char *message);

// Gives the host credit for `bytes` of this stream's input that have been consumed.
void stream_grant(struct agent *agent, struct stream *stream, uint32_t bytes);

// Releases the stream without a word to the host.
void stream_close(struct agent *agent, struct stream *stream);
void stream_close_all(struct agent *agent);

#endif
