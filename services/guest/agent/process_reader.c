// Streams that follow a process: replay of its log from a number, then what comes, then its exit.
#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "process.h"

static uint8_t data_buffer[MAX_DATA_BYTES];

uint64_t process_reader_held_lag(const struct process *process) {
    uint64_t least = UINT64_MAX;
    for (struct process_reader *reader = process->readers; reader; reader = reader->next) {
        uint64_t lag = reader->holds ? output_log_lag(&process->log, &reader->cursor) : UINT64_MAX;
        if (lag < least) least = lag;
    }
    if (least != UINT64_MAX) return least;
    return process->place_kept_until_ns ? output_log_lag(&process->log, &process->kept_place) : 0;
}

// Whoever held the process has lost it on the way (a restarted host agent, a broken connection) or has left it: the two
// look the same from here.
static void keep_place(struct process *process, const struct process_reader *reader) {
    if (!reader->holds || process->state == PROCESS_EXITED) return;
    process->kept_place = reader->cursor;
    process->place_kept_until_ns = clock_monotonic_ns() + OUTPUT_HOLD_ABSENT_MS * 1000000ull;
}

void process_reader_forget_places(struct agent *agent) {
    for (struct process *process = agent->processes; process; process = process->next) process->place_kept_until_ns = 0;
}

static void send_started(struct agent *agent, struct process_reader *reader) {
    Guest__V1__ProcessStarted started = GUEST__V1__PROCESS_STARTED__INIT;
    started.pid = reader->process->pid;
    started.started_unix_ms = reader->process->started_unix_ms;
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_PROCESS_STARTED;
    frame.process_started = &started;
    stream_send(agent, reader->stream, &frame);
    reader->started_sent = true;
    stream_add_span(reader->stream, reader->span_name, reader->stream->opened_ns, clock_monotonic_ns());
}

static void send_gap(struct agent *agent, struct process_reader *reader) {
    struct output_gap gap;
    if (!output_log_take_gap(&reader->process->log, &reader->cursor, &gap)) return;
    Guest__V1__ProcessGap message = GUEST__V1__PROCESS_GAP__INIT;
    message.first_lost_sequence = gap.first_lost;
    message.last_lost_sequence = gap.last_lost;
    message.lost_bytes = gap.lost_bytes;
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_PROCESS_GAP;
    frame.process_gap = &message;
    stream_send(agent, reader->stream, &frame);
}

static void send_output(struct agent *agent, struct process_reader *reader, const struct output_event *event) {
    output_log_take(&reader->process->log, &reader->cursor, event, data_buffer);
    Guest__V1__ProcessOutput output = GUEST__V1__PROCESS_OUTPUT__INIT;
    output.sequence = event->sequence;
    output.stream = (Guest__V1__OutputStream)event->stream;
    output.data = (ProtobufCBinaryData){event->length, data_buffer};
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_PROCESS_OUTPUT;
    frame.process_output = &output;
    stream_send(agent, reader->stream, &frame);
    reader->stream->send_credit -= event->length;
}

static void send_exit(struct agent *agent, struct process_reader *reader) {
    Guest__V1__ProcessExited exited = GUEST__V1__PROCESS_EXITED__INIT;
    process_fill_exited(reader->process, &exited);
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_PROCESS_EXITED;
    frame.process_exited = &exited;
    stream_send(agent, reader->stream, &frame);
    stream_add_span(reader->stream, "guest.follow_process", reader->stream->opened_ns, clock_monotonic_ns());
    stream_end(agent, reader->stream, GUEST__V1__STATUS_CODE__STATUS_CODE_OK, 0, NULL);
}

static bool pump_reader(struct agent *agent, struct stream *stream) {
    struct process_reader *reader = stream->owner;
    struct process *process = reader->process;
    if (process->state == PROCESS_STARTING || !channel_has_room_for_data(&agent->channel)) return false;
    if (!reader->started_sent) {
        send_started(agent, reader);
        return true;
    }
    // A gap is told of together with what follows it: told at once, a stalled reader would get one after the other.
    struct output_gap gap;
    struct output_cursor behind_gap = reader->cursor;
    output_log_take_gap(&process->log, &behind_gap, &gap);
    struct output_event event;
    bool more = output_log_peek(&process->log, &behind_gap, &event);
    if (more && event.length > stream->send_credit) return false;
    send_gap(agent, reader);
    if (more) {
        send_output(agent, reader, &event);
        return true;
    }
    if (process->state != PROCESS_EXITED) return false;
    send_exit(agent, reader);
    return true;
}

static void receive_stdin(struct agent *agent, struct stream *stream, const Guest__V1__Frame *frame) {
    if (frame->body_case != GUEST__V1__FRAME__BODY_STDIN) return;
    struct process_reader *reader = stream->owner;
    process_input_add(agent, reader->process, stream, false, &frame->stdin->data, frame->stdin->eof);
}

static void close_reader(struct agent *agent, struct stream *stream) {
    (void)agent;
    struct process_reader *reader = stream->owner;
    for (struct process_reader **link = &reader->process->readers; *link; link = &(*link)->next) {
        if (*link != reader) continue;
        *link = reader->next;
        break;
    }
    keep_place(reader->process, reader);
    process_input_forget_stream(reader->process, stream);
    free(reader);
}

static const struct stream_kind reader_kind = {
    .pump = pump_reader,
    .receive = receive_stdin,
    .close = close_reader,
};

bool process_reader_add(struct process *process, struct stream *stream, const struct process_following *following) {
    struct process_reader *reader = calloc(1, sizeof *reader);
    if (!reader) return false;
    *reader = (struct process_reader){
        .next = process->readers,
        .process = process,
        .stream = stream,
        .span_name = following->span_name,
        .holds = following->holds,
        .cursor = output_log_seek(&process->log, following->after_sequence),
    };
    if (following->holds) process->place_kept_until_ns = 0;
    process->readers = reader;
    stream->kind = &reader_kind;
    stream->owner = reader;
    return true;
}

void process_reader_fail_all(struct agent *agent, struct process *process, int errno_value, const char *what) {
    while (process->readers) {
        struct stream *stream = process->readers->stream;
        stream_add_span(stream, "guest.start_process", stream->opened_ns, clock_monotonic_ns());
        stream_end_errno(agent, stream, errno_value, what);
    }
}

void process_attach(struct agent *agent, struct stream *stream, const Guest__V1__AttachProcess *request) {
    struct process *process = process_find(agent, request->pid);
    struct process_following following = {request->after_sequence, request->hold_back, "guest.attach_process"};
    if (!process || (request->started_unix_ms && request->started_unix_ms != process->started_unix_ms)) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_NOT_FOUND, ESRCH, "no such process");
    } else if (request->after_sequence >= process->log.next_sequence) {
        // What the reader has seen was undone: going on would repeat numbers that it takes for seen.
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_FAILED_PRECONDITION, 0,
                   "the output of the process ends before that number");
    } else if (!process_reader_add(process, stream, &following)) {
        stream_end_errno(agent, stream, ENOMEM, "attach process");
    }
}
