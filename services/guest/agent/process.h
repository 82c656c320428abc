// Processes that the host started: their state, output log, stdin queue and exit. They outlive streams and epochs.
#ifndef TORPOR_PROCESS_H
#define TORPOR_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent.h"
#include "output_log.h"

enum process_state {
    // Forked; exec has not succeeded yet.
    PROCESS_STARTING,
    PROCESS_RUNNING,
    // Reaped; output that was in the pipes at that moment is still being read.
    PROCESS_DRAINING,
    PROCESS_EXITED,
};

struct process_output {
    struct event_source source;
    struct process *process;
    // -1 when closed.
    int fd;
    uint32_t stream;
    bool readable;
    // While draining: bytes that were in the pipe when the process was reaped.
    uint64_t left_at_exit;
};

// Bytes on their way to a process's stdin. `stream` gets credit or End when they are written; NULL when it is gone.
struct process_input {
    struct process_input *next;
    struct stream *stream;
    bool end_stream;
    bool eof;
    uint32_t length, written;
    uint8_t data[];
};

struct process_reader {
    struct process_reader *next;
    struct process *process;
    struct stream *stream;
    struct output_cursor cursor;
    const char *span_name;
    // The process waits for it.
    bool holds;
    bool started_sent;
};

struct process {
    struct process *next;
    uint32_t pid;
    enum process_state state;
    bool timed_out;
    bool reaped;
    int wait_status;
    // CLOCK_MONOTONIC; 0: none.
    uint64_t deadline_ns;
    int64_t started_unix_ms;
    char **argv;
    size_t argc;
    char *user;
    char *working_directory;
    // Pipe that closes when exec has succeeded, or carries the reason why not.
    struct event_source report_source;
    int report_fd;
    bool report_readable;
    struct process_output outputs[2];
    struct event_source input_source;
    int input_fd;
    bool input_writable;
    struct process_input *input_first, **input_last;
    uint64_t input_bytes;
    struct output_log log;
    struct process_reader *readers;
    // The place of the last holding reader that went without the exit, kept for another one until then (CLOCK_MONOTONIC,
    // which stands still during a pause); 0: none.
    uint64_t place_kept_until_ns;
    struct output_cursor kept_place;
};

// How a stream follows a process.
struct process_following {
    uint64_t after_sequence;
    bool holds;
    // A literal: the span that ends with ProcessStarted.
    const char *span_name;
};

// Requests. Each takes over the stream.
void process_start(struct agent *agent, struct stream *stream, const Guest__V1__StartProcess *request);
void process_attach(struct agent *agent, struct stream *stream, const Guest__V1__AttachProcess *request);
void process_signal(struct agent *agent, struct stream *stream, const Guest__V1__SignalProcess *request);
void process_write_stdin(struct agent *agent, struct stream *stream, const Guest__V1__WriteStdin *request);
void process_list(struct agent *agent, struct stream *stream);

struct process *process_find(struct agent *agent, uint32_t pid);

// Moves pipes, deadlines and exits of all processes forward. Returns true when more can be done at once.
bool process_step_all(struct agent *agent);

// Notes a reaped child. false when it is no process of the host's.
bool process_reaped(struct agent *agent, pid_t pid, int wait_status);

// The nearest deadline (CLOCK_MONOTONIC, ns), or 0.
uint64_t process_next_deadline(struct agent *agent);

void process_fill_exited(const struct process *process, Guest__V1__ProcessExited *exited);

// process_input.c: queues bytes and writes what the pipe takes.
void process_input_add(struct agent *agent, struct process *process, struct stream *stream, bool end_stream,
                       const ProtobufCBinaryData *data, bool eof);
void process_input_flush(struct agent *agent, struct process *process);
// Fails everything queued and closes the pipe.
void process_input_close(struct agent *agent, struct process *process);
// A stream closes: its queued bytes are still written, but nobody is told.
void process_input_forget_stream(struct process *process, const struct stream *stream);

// process_reader.c: streams that follow a process.
bool process_reader_add(struct process *process, struct stream *stream, const struct process_following *following);
// Lag of the holding reader that is furthest ahead, or of a place that is kept for one; 0 when there is none.
uint64_t process_reader_held_lag(const struct process *process);
// No process waits any longer for readers that are gone.
void process_reader_forget_places(struct agent *agent);
// Ends every reader's stream because the process could not be started.
void process_reader_fail_all(struct agent *agent, struct process *process, int errno_value, const char *what);

// process_output.c
bool process_output_read(struct agent *agent, struct process *process);
void process_output_begin_drain(struct process *process);
bool process_output_drained(const struct process *process);
void process_output_close(struct agent *agent, struct process_output *output);

#endif
