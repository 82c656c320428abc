#include "request.h"

#include <errno.h>

#include "files.h"
#include "machine.h"
#include "prepare.h"
#include "process.h"
#include "tcp.h"
#include "wake.h"

static void handle_hello(struct agent *agent, const Guest__V1__Hello *hello) {
    stream_close_all(agent);
    channel_restart_sending(&agent->channel);
    agent->epoch = hello->epoch;
    agent->greeted = true;
    Guest__V1__HelloReply reply = GUEST__V1__HELLO_REPLY__INIT;
    reply.epoch = hello->epoch;
    reply.protocol_version = AGENT_PROTOCOL_VERSION;
    reply.agent_version = (char *)AGENT_VERSION;
    reply.boot_id = agent->boot_id;
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_HELLO_REPLY;
    frame.hello_reply = &reply;
    channel_send(&agent->channel, &frame);
}

static void start_worker(struct agent *agent, struct stream *stream, const Guest__V1__Open *open) {
    struct worker_request work;
    switch (open->request_case) {
        case GUEST__V1__OPEN__REQUEST_STAT_FILE:
            work = (struct worker_request){"guest.stat_file", open->stat_file->user, file_stat, open->stat_file, "stat file"};
            break;
        case GUEST__V1__OPEN__REQUEST_LIST_DIRECTORY:
            work = (struct worker_request){"guest.list_directory", open->list_directory->user, file_list,
                                           open->list_directory, "list directory"};
            break;
        case GUEST__V1__OPEN__REQUEST_READ_FILE:
            work = (struct worker_request){"guest.read_file", open->read_file->user, file_read, open->read_file, "read file"};
            break;
        case GUEST__V1__OPEN__REQUEST_WRITE_FILE:
            work = (struct worker_request){"guest.write_file", open->write_file->user, file_write, open->write_file,
                                           "write file"};
            break;
        case GUEST__V1__OPEN__REQUEST_MAKE_DIRECTORY:
            work = (struct worker_request){"guest.make_directory", open->make_directory->user, file_make_directory,
                                           open->make_directory, "make directory"};
            break;
        case GUEST__V1__OPEN__REQUEST_REMOVE_FILE:
            work = (struct worker_request){"guest.remove_file", open->remove_file->user, file_remove, open->remove_file,
                                           "remove file"};
            break;
        case GUEST__V1__OPEN__REQUEST_SYNC:
            work = (struct worker_request){"guest.sync", NULL, file_sync_all, NULL, "sync"};
            break;
        default:
            stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_INVALID_ARGUMENT, EINVAL, "unknown request");
            return;
    }
    worker_start(agent, stream, &work);
}

static void handle_open(struct agent *agent, uint32_t id, const Guest__V1__Open *open) {
    if (id == 0 || stream_find(agent, id)) return;
    struct stream *stream = stream_open(agent, id);
    if (!stream) {
        stream_refuse(agent, id, GUEST__V1__STATUS_CODE__STATUS_CODE_RESOURCE_EXHAUSTED, "too many open streams");
        return;
    }
    switch (open->request_case) {
        case GUEST__V1__OPEN__REQUEST_START_PROCESS: process_start(agent, stream, open->start_process); break;
        case GUEST__V1__OPEN__REQUEST_ATTACH_PROCESS: process_attach(agent, stream, open->attach_process); break;
        case GUEST__V1__OPEN__REQUEST_SIGNAL_PROCESS: process_signal(agent, stream, open->signal_process); break;
        case GUEST__V1__OPEN__REQUEST_WRITE_STDIN: process_write_stdin(agent, stream, open->write_stdin); break;
        case GUEST__V1__OPEN__REQUEST_LIST_PROCESSES: process_list(agent, stream); break;
        case GUEST__V1__OPEN__REQUEST_PING: machine_ping(agent, stream); break;
        case GUEST__V1__OPEN__REQUEST_GET_METRICS: machine_metrics(agent, stream); break;
        case GUEST__V1__OPEN__REQUEST_PREPARE_PAUSE: prepare_start(agent, stream, open->prepare_pause); break;
        case GUEST__V1__OPEN__REQUEST_WAKE: wake(agent, stream, open->wake); break;
        case GUEST__V1__OPEN__REQUEST_CONNECT_PORT: tcp_connect(agent, stream, open->connect_port); break;
        default: start_worker(agent, stream, open); break;
    }
}

static void handle_data(struct agent *agent, struct stream *stream, const Guest__V1__Frame *frame, size_t bytes) {
    if (!stream->kind || !stream->kind->receive) return;
    if (bytes > stream->receive_credit || bytes > MAX_DATA_BYTES) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_RESOURCE_EXHAUSTED, 0, "more bytes than credit");
        return;
    }
    stream->receive_credit -= bytes;
    stream->kind->receive(agent, stream, frame);
}

static void handle_frame(struct agent *agent, const Guest__V1__Frame *frame) {
    if (frame->body_case == GUEST__V1__FRAME__BODY_HELLO) {
        handle_hello(agent, frame->hello);
        return;
    }
    if (!agent->greeted) return;
    if (frame->body_case == GUEST__V1__FRAME__BODY_OPEN) {
        handle_open(agent, frame->stream_id, frame->open);
        return;
    }
    struct stream *stream = stream_find(agent, frame->stream_id);
    if (!stream) return;
    switch (frame->body_case) {
        case GUEST__V1__FRAME__BODY_STDIN: handle_data(agent, stream, frame, frame->stdin->data.len); break;
        case GUEST__V1__FRAME__BODY_FILE_CHUNK: handle_data(agent, stream, frame, frame->file_chunk->data.len); break;
        case GUEST__V1__FRAME__BODY_PORT_CHUNK: handle_data(agent, stream, frame, frame->port_chunk->data.len); break;
        // The sum can't wrap: 2^32 frames of 2^32 bytes would have to arrive on one stream.
        case GUEST__V1__FRAME__BODY_CREDIT: stream->send_credit += frame->credit->bytes; break;
        case GUEST__V1__FRAME__BODY_CANCEL: stream_close(agent, stream); break;
        default: break;
    }
}

void request_handle(struct agent *agent, const uint8_t *payload, size_t length) {
    Guest__V1__Frame *frame = guest__v1__frame__unpack(NULL, length, payload);
    if (!frame) {
        agent->channel.dropped_frames++;
        return;
    }
    handle_frame(agent, frame);
    guest__v1__frame__free_unpacked(frame, NULL);
}
