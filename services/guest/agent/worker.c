#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "clock.h"
#include "status.h"

enum { SOCKET_BUFFER_BYTES = 512 << 10 };

// What a worker gets to tidy up (remove a temporary file) after its stream has closed, before it is killed.
enum { TIDY_SECONDS = 2 };

// A message on the socket (SOCK_SEQPACKET, so its borders are kept) is this header and a packed Frame, or in the other
// direction one flag byte and data.
struct message_header {
    uint32_t data_bytes;
    uint32_t is_end;
};

struct chunk {
    struct chunk *next;
    uint32_t length;
    bool eof;
    uint8_t data[];
};

struct worker {
    struct worker *next;
    struct event_source source;
    // NULL: the stream is over, the child is not yet reaped.
    struct stream *stream;
    pid_t pid;
    bool reaped;
    uint64_t kill_at_ns;
    int socket;
    bool readable, writable;
    struct chunk *first, **last;
};

static uint8_t message_buffer[sizeof(struct message_header) + MAX_FRAME_BYTES];

static void worker_ready(struct event_source *source, uint32_t events) {
    struct worker *worker = (struct worker *)((char *)source - offsetof(struct worker, source));
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) worker->readable = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) worker->writable = true;
}

static void worker_free(struct agent *agent, struct worker *worker) {
    for (struct worker **link = &agent->workers; *link; link = &(*link)->next) {
        if (*link != worker) continue;
        *link = worker->next;
        break;
    }
    agent->worker_count--;
    free(worker);
}

static void detach(struct agent *agent, struct worker *worker) {
    while (worker->first) {
        struct chunk *chunk = worker->first;
        worker->first = chunk->next;
        free(chunk);
    }
    agent_unwatch(agent, worker->socket, &worker->source);
    close(worker->socket);
    worker->stream = NULL;
    worker->kill_at_ns = clock_monotonic_ns() + TIDY_SECONDS * 1000000000ull;
    if (worker->reaped) worker_free(agent, worker);
}

bool worker_reaped(struct agent *agent, pid_t pid) {
    for (struct worker *worker = agent->workers; worker; worker = worker->next) {
        if (worker->pid != pid || worker->reaped) continue;
        worker->reaped = true;
        if (!worker->stream) worker_free(agent, worker);
        return true;
    }
    return false;
}

void worker_kill_overdue(struct agent *agent) {
    for (struct worker *worker = agent->workers; worker; worker = worker->next) {
        if (worker->stream || !worker->kill_at_ns || clock_monotonic_ns() < worker->kill_at_ns) continue;
        worker->kill_at_ns = 0;
        kill(worker->pid, SIGKILL);
    }
}

uint64_t worker_next_deadline(const struct agent *agent) {
    uint64_t nearest = 0;
    for (const struct worker *worker = agent->workers; worker; worker = worker->next) {
        if (worker->stream || !worker->kill_at_ns) continue;
        if (!nearest || worker->kill_at_ns < nearest) nearest = worker->kill_at_ns;
    }
    return nearest;
}

static bool flush_chunks(struct agent *agent, struct worker *worker) {
    bool progress = false;
    while (worker->first && worker->writable && channel_has_room_for_reply(&agent->channel)) {
        struct chunk *chunk = worker->first;
        uint8_t eof = chunk->eof;
        struct iovec parts[2] = {{&eof, 1}, {chunk->data, chunk->length}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        if (sendmsg(worker->socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            if (errno == EINTR) continue;
            worker->writable = false;
            // EPIPE: the worker has ended early; its End is still to be read.
            break;
        }
        progress = true;
        worker->first = chunk->next;
        if (!worker->first) worker->last = &worker->first;
        stream_grant(agent, worker->stream, chunk->length);
        free(chunk);
    }
    return progress;
}

static bool pump_worker(struct agent *agent, struct stream *stream) {
    struct worker *worker = stream->owner;
    bool progress = flush_chunks(agent, worker);
    // Read only when a full chunk may be sent: a frame once read must go out.
    if (!worker->readable || stream->send_credit < MAX_DATA_BYTES || !channel_has_room_for_data(&agent->channel)) {
        return progress;
    }
    ssize_t got = recv(worker->socket, message_buffer, sizeof message_buffer, MSG_DONTWAIT);
    // ECONNRESET comes once, before the worker's last frames, when it ended without reading all that was sent to it.
    if (got < 0 && (errno == EINTR || errno == ECONNRESET)) return true;
    if (got < 0 && errno == EAGAIN) {
        worker->readable = false;
        return progress;
    }
    struct message_header header;
    if (got < (ssize_t)sizeof header) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_INTERNAL, 0, "the worker died");
        return true;
    }
    memcpy(&header, message_buffer, sizeof header);
    channel_send_packed(&agent->channel, message_buffer + sizeof header, (size_t)got - sizeof header);
    stream->send_credit -= header.data_bytes;
    if (header.is_end) stream_close(agent, stream);
    return true;
}

static void receive_chunk(struct agent *agent, struct stream *stream, const Guest__V1__Frame *frame) {
    if (frame->body_case != GUEST__V1__FRAME__BODY_FILE_CHUNK) return;
    struct worker *worker = stream->owner;
    const Guest__V1__FileChunk *file_chunk = frame->file_chunk;
    struct chunk *chunk = malloc(sizeof *chunk + file_chunk->data.len);
    if (!chunk) {
        stream_end_errno(agent, stream, ENOMEM, "receive chunk");
        return;
    }
    *chunk = (struct chunk){.length = (uint32_t)file_chunk->data.len, .eof = file_chunk->eof};
    if (chunk->length) memcpy(chunk->data, file_chunk->data.data, chunk->length);
    *worker->last = chunk;
    worker->last = &chunk->next;
}

// The closed socket tells the child to undo what it has begun.
static void close_worker(struct agent *agent, struct stream *stream) { detach(agent, stream->owner); }

static const struct stream_kind worker_kind = {
    .pump = pump_worker,
    .receive = receive_chunk,
    .close = close_worker,
};

static void agent_died(int number) {
    (void)number;
    alarm(TIDY_SECONDS);
}

// Without its agent nobody would kill a child that hangs (a FIFO, a dead disk): it gets the usual time to tidy up.
static void end_with_agent(pid_t agent_pid) {
    struct sigaction action = {.sa_handler = agent_died, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    // A change of credentials would have cleared it, so it comes after that.
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != agent_pid) alarm(TIDY_SECONDS);
}

_Noreturn static void run_child(const struct worker_request *request, struct worker_output *output,
                                 pid_t agent_pid) {
    // The agent's descriptors must not stay open here: a write end of some process's stdin would hide its end.
    if (dup2(output->socket, STDERR_FILENO + 1) < 0) _exit(1);
    output->socket = STDERR_FILENO + 1;
    close_range(STDERR_FILENO + 2, ~0U, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    static struct account account;
    int error = 0;
    if (request->user) {
        if ((error = account_find(request->user, &account)) != 0) worker_fail(output, error, "user");
        if ((error = account_become(&account)) != 0) worker_fail(output, error, "switch to the user");
    }
    end_with_agent(agent_pid);
    error = request->run(output, request->user ? &account : NULL, request->request);
    worker_fail(output, error, request->failure);
}

static bool open_worker(struct agent *agent, struct stream *stream, const struct worker_request *request) {
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets)) return false;
    // Beyond net.core.wmem_max only root's FORCE variant has an effect; a smaller buffer still holds one message.
    int size = SOCKET_BUFFER_BYTES;
    for (int i = 0; i < 2; i++) setsockopt(sockets[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    struct worker *worker = calloc(1, sizeof *worker);
    pid_t agent_pid = getpid();
    pid_t pid = worker ? fork() : -1;
    if (pid == 0) {
        struct worker_output output = {sockets[1], stream->id, request->span_name, stream->opened_ns};
        run_child(request, &output, agent_pid);
    }
    int error = errno;
    close(sockets[1]);
    if (pid < 0) {
        close(sockets[0]);
        free(worker);
        errno = error;
        return false;
    }
    *worker = (struct worker){
        .next = agent->workers,
        .source = {worker_ready},
        .stream = stream,
        .pid = pid,
        .socket = sockets[0],
        .readable = true,
        .writable = true,
        .last = NULL,
    };
    worker->last = &worker->first;
    agent->workers = worker;
    agent->worker_count++;
    stream->kind = &worker_kind;
    stream->owner = worker;
    return agent_watch(agent, worker->socket, EPOLLIN | EPOLLOUT, &worker->source);
}

void worker_start(struct agent *agent, struct stream *stream, const struct worker_request *request) {
    if (agent->worker_count >= MAX_WORKERS) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_RESOURCE_EXHAUSTED, EAGAIN,
                   "too many file operations at once");
    } else if (!open_worker(agent, stream, request)) {
        stream_end_errno(agent, stream, errno, "start worker");
    }
}

static void send_message(struct worker_output *output, Guest__V1__Frame *frame, struct message_header header) {
    frame->stream_id = output->stream_id;
    if (guest__v1__frame__get_packed_size(frame) > MAX_FRAME_BYTES) _exit(1);
    memcpy(message_buffer, &header, sizeof header);
    size_t length = sizeof header + guest__v1__frame__pack(frame, message_buffer + sizeof header);
    while (send(output->socket, message_buffer, length, MSG_NOSIGNAL) < 0) {
        // The agent has closed the stream: nobody wants the rest.
        if (errno != EINTR) _exit(1);
    }
}

void worker_send(struct worker_output *output, Guest__V1__Frame *frame, uint32_t data_bytes) {
    send_message(output, frame, (struct message_header){.data_bytes = data_bytes});
}

_Noreturn void worker_fail(struct worker_output *output, int errno_value, const char *what) {
    char text[256] = "";
    if (errno_value) status_message(text, sizeof text, what, errno_value);
    Guest__V1__Status status = GUEST__V1__STATUS__INIT;
    status.code = status_of_errno(errno_value);
    status.errno_value = errno_value;
    status.message = text;
    Guest__V1__Span span = GUEST__V1__SPAN__INIT, *spans[] = {&span};
    span.name = (char *)output->span_name;
    span.duration_ns = clock_monotonic_ns() - output->opened_ns;
    Guest__V1__End end = GUEST__V1__END__INIT;
    end.status = &status;
    end.spans = spans;
    end.n_spans = 1;
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_END;
    frame.end = &end;
    send_message(output, &frame, (struct message_header){.is_end = 1});
    _exit(errno_value != 0);
}

bool worker_receive(struct worker_output *output, struct worker_chunk *chunk) {
    uint8_t eof;
    struct iovec parts[2] = {{&eof, 1}, {chunk->data, sizeof chunk->data}};
    for (;;) {
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t got = recvmsg(output->socket, &message, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 1) return false;
        chunk->length = (size_t)got - 1;
        chunk->eof = eof != 0;
        return true;
    }
}
