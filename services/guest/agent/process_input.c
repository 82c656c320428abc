// From the host's chunks into a process's stdin.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "process.h"

static void finish_entry(struct agent *agent, struct process *process, int errno_value) {
    struct process_input *entry = process->input_first;
    process->input_first = entry->next;
    if (!process->input_first) process->input_last = &process->input_first;
    process->input_bytes -= entry->length;
    if (entry->stream && entry->end_stream) {
        if (errno_value) {
            stream_end_errno(agent, entry->stream, errno_value, "write stdin");
        } else {
            stream_add_span(entry->stream, "guest.write_stdin", entry->stream->opened_ns, clock_monotonic_ns());
            stream_end(agent, entry->stream, GUEST__V1__STATUS_CODE__STATUS_CODE_OK, 0, NULL);
        }
    } else if (entry->stream) {
        stream_grant(agent, entry->stream, entry->length);
    }
    free(entry);
}

static void close_pipe(struct agent *agent, struct process *process) {
    if (process->input_fd < 0) return;
    agent_unwatch(agent, process->input_fd, &process->input_source);
    close(process->input_fd);
    process->input_fd = -1;
}

void process_input_close(struct agent *agent, struct process *process) {
    close_pipe(agent, process);
    while (process->input_first) finish_entry(agent, process, EPIPE);
}

void process_input_flush(struct agent *agent, struct process *process) {
    while (process->input_first) {
        // Each entry answers with a frame of its own.
        if (!channel_has_room_for_reply(&agent->channel)) return;
        struct process_input *entry = process->input_first;
        if (process->input_fd < 0) {
            finish_entry(agent, process, EPIPE);
            continue;
        }
        if (!process->input_writable) return;
        if (entry->written < entry->length) {
            ssize_t done = write(process->input_fd, entry->data + entry->written, entry->length - entry->written);
            if (done >= 0) {
                entry->written += (uint32_t)done;
            } else if (errno == EAGAIN) {
                process->input_writable = false;
            } else if (errno != EINTR) {
                close_pipe(agent, process);
            }
            continue;
        }
        bool eof = entry->eof;
        finish_entry(agent, process, 0);
        if (eof) close_pipe(agent, process);
    }
}

void process_input_add(struct agent *agent, struct process *process, struct stream *stream, bool end_stream,
                       const ProtobufCBinaryData *data, bool eof) {
    if (process->input_bytes + data->len > MAX_STDIN_QUEUE_BYTES) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_RESOURCE_EXHAUSTED, EAGAIN,
                   "too much stdin is waiting for this process");
        return;
    }
    struct process_input *entry = malloc(sizeof *entry + data->len);
    if (!entry) {
        stream_end_errno(agent, stream, ENOMEM, "write stdin");
        return;
    }
    *entry = (struct process_input){
        .stream = stream, .end_stream = end_stream, .eof = eof, .length = (uint32_t)data->len};
    if (data->len) memcpy(entry->data, data->data, data->len);
    *process->input_last = entry;
    process->input_last = &entry->next;
    process->input_bytes += data->len;
    process_input_flush(agent, process);
}

void process_input_forget_stream(struct process *process, const struct stream *stream) {
    for (struct process_input *entry = process->input_first; entry; entry = entry->next) {
        if (entry->stream == stream) entry->stream = NULL;
    }
}

static void close_write_stdin(struct agent *agent, struct stream *stream) {
    // The process may be gone by now; its queue then went with it.
    struct process *process = process_find(agent, (uint32_t)(uintptr_t)stream->owner);
    if (process) process_input_forget_stream(process, stream);
}

static const struct stream_kind write_stdin_kind = {.close = close_write_stdin};

void process_write_stdin(struct agent *agent, struct stream *stream, const Guest__V1__WriteStdin *request) {
    struct process *process = process_find(agent, request->pid);
    if (!process) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_NOT_FOUND, ESRCH, "no such process");
        return;
    }
    if (process->input_fd < 0) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_FAILED_PRECONDITION, EPIPE, "stdin is closed");
        return;
    }
    stream->kind = &write_stdin_kind;
    stream->owner = (void *)(uintptr_t)request->pid;
    process_input_add(agent, process, stream, true, &request->data, request->eof);
}
