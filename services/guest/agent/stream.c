#include "stream.h"

#include <string.h>

#include "agent.h"
#include "clock.h"
#include "status.h"

struct stream *stream_find(struct agent *agent, uint32_t id) {
    if (id == 0) return NULL;
    for (unsigned i = 0; i < MAX_STREAMS; i++) {
        if (agent->streams[i].id == id) return &agent->streams[i];
    }
    return NULL;
}

struct stream *stream_open(struct agent *agent, uint32_t id) {
    for (unsigned i = 0; i < MAX_STREAMS; i++) {
        struct stream *stream = &agent->streams[i];
        if (stream->id != 0) continue;
        *stream = (struct stream){
            .id = id,
            .opened_ns = clock_monotonic_ns(),
            .send_credit = INITIAL_CREDIT_BYTES,
            .receive_credit = INITIAL_CREDIT_BYTES,
        };
        return stream;
    }
    return NULL;
}

void stream_send(struct agent *agent, const struct stream *stream, Guest__V1__Frame *frame) {
    frame->stream_id = stream->id;
    channel_send(&agent->channel, frame);
}

void stream_add_span(struct stream *stream, const char *name, uint64_t start_ns, uint64_t end_ns) {
    if (stream->span_count == MAX_SPANS) return;
    stream->spans[stream->span_count++] = (struct stream_span){name, start_ns, end_ns};
}

void stream_end(struct agent *agent, struct stream *stream, Guest__V1__StatusCode code, int errno_value,
                const char *message) {
    Guest__V1__Status status = GUEST__V1__STATUS__INIT;
    status.code = code;
    status.errno_value = errno_value;
    status.message = (char *)(message ? message : "");
    Guest__V1__Span spans[MAX_SPANS], *span_list[MAX_SPANS];
    for (unsigned i = 0; i < stream->span_count; i++) {
        const struct stream_span *span = &stream->spans[i];
        guest__v1__span__init(&spans[i]);
        spans[i].name = (char *)span->name;
        spans[i].start_offset_ns = span->start_ns - stream->opened_ns;
        spans[i].duration_ns = span->end_ns - span->start_ns;
        span_list[i] = &spans[i];
    }
    Guest__V1__End end = GUEST__V1__END__INIT;
    end.status = &status;
    end.spans = span_list;
    end.n_spans = stream->span_count;
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_END;
    frame.end = &end;
    stream_send(agent, stream, &frame);
    stream_close(agent, stream);
}

void stream_end_errno(struct agent *agent, struct stream *stream, int errno_value, const char *what) {
    char message[256];
    status_message(message, sizeof message, what, errno_value);
    stream_end(agent, stream, status_of_errno(errno_value), errno_value, message);
}

void stream_refuse(struct agent *agent, uint32_t id, Guest__V1__StatusCode code, const char *message) {
    struct stream refused = {.id = id};
    stream_end(agent, &refused, code, 0, message);
}

void stream_grant(struct agent *agent, struct stream *stream, uint32_t bytes) {
    if (bytes == 0) return;
    stream->receive_credit += bytes;
    Guest__V1__Credit credit = GUEST__V1__CREDIT__INIT;
    credit.bytes = bytes;
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_CREDIT;
    frame.credit = &credit;
    stream_send(agent, stream, &frame);
}

void stream_close(struct agent *agent, struct stream *stream) {
    if (stream->kind && stream->kind->close) stream->kind->close(agent, stream);
    memset(stream, 0, sizeof *stream);
}

void stream_close_all(struct agent *agent) {
    for (unsigned i = 0; i < MAX_STREAMS; i++) {
        if (agent->streams[i].id != 0) stream_close(agent, &agent->streams[i]);
    }
}
