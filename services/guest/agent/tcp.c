// From a port of the guest to the host and back. The program at the port may be anybody's: it is only ever given and taken
// bytes, within the credit of the stream.
#define _GNU_SOURCE
#include "tcp.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "status.h"

struct tcp_connection {
    struct event_source source;
    // -1 between two attempts.
    int fd;
    uint16_t port;
    // Which of the guest's addresses is tried.
    unsigned address;
    // broken: the kernel has told of an error or of the end of both directions.
    bool connected, readable, writable, broken;
    // Everything that the program sent, and its end, is on its way to the host.
    bool input_ended;
    // The host sends nothing more.
    bool host_ended;
    // The program gets nothing more: it was told of the host's end, or takes nothing.
    bool output_ended;
    // Both directions have ended: closing it loses nothing.
    bool finished;
    // Taken from the host and not yet given back as credit.
    uint32_t ungranted;
    // Bytes of the host that the socket did not take; NULL: none. They fit into the window.
    uint8_t *pending;
    uint32_t pending_start, pending_end;
};

static uint8_t read_buffer[MAX_DATA_BYTES];

static void tcp_ready(struct event_source *source, uint32_t events) {
    struct tcp_connection *connection = (struct tcp_connection *)source;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) connection->readable = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) connection->writable = true;
    if (events & (EPOLLHUP | EPOLLERR)) connection->broken = true;
}

static void close_socket(struct agent *agent, struct tcp_connection *connection) {
    if (connection->fd < 0) return;
    agent_unwatch(agent, connection->fd, &connection->source);
    // Whoever was cut off in the middle must not take it for an end.
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    if (!connection->finished) setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(connection->fd);
    connection->fd = -1;
}

static int try_address(struct agent *agent, struct tcp_connection *connection, const struct tcp_address *address) {
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return errno;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int error = connect(fd, (const struct sockaddr *)&address->storage, address->length) ? errno : 0;
    connection->fd = fd;
    connection->writable = error == 0;
    if (error && error != EINPROGRESS) {
        close_socket(agent, connection);
        return error;
    }
    if (agent_watch(agent, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &connection->source)) return 0;
    error = errno;
    close_socket(agent, connection);
    return error;
}

// Tries one address after the other. 0: one is being connected to; else what the most telling attempt has failed with.
static int try_next(struct agent *agent, struct tcp_connection *connection, int error) {
    struct tcp_address address;
    while (tcp_own_address(connection->address++, connection->port, &address)) {
        int failure = try_address(agent, connection, &address);
        if (failure == 0) return 0;
        // A guest without IPv6 says so; that nobody listens at 127.0.0.1 is what counts then.
        if (error != ECONNREFUSED) error = failure;
    }
    return error;
}

static void send_connected(struct agent *agent, struct stream *stream) {
    Guest__V1__PortConnected connected = GUEST__V1__PORT_CONNECTED__INIT;
    connected.window_bytes = PORT_WINDOW_BYTES;
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_PORT_CONNECTED;
    frame.port_connected = &connected;
    stream_send(agent, stream, &frame);
    stream->receive_credit = PORT_WINDOW_BYTES;
    stream_add_span(stream, "guest.connect_port", stream->opened_ns, clock_monotonic_ns());
}

static bool finish_connecting(struct agent *agent, struct stream *stream, struct tcp_connection *connection) {
    if (!connection->writable || !channel_has_room_for_reply(&agent->channel)) return false;
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length)) error = errno;
    if (error == 0) {
        connection->connected = connection->readable = true;
        send_connected(agent, stream);
        return true;
    }
    close_socket(agent, connection);
    error = try_next(agent, connection, error);
    if (error) stream_end_errno(agent, stream, error, "connect to port");
    return true;
}

static void drop_pending(struct tcp_connection *connection) {
    free(connection->pending);
    connection->pending = NULL;
    connection->pending_start = connection->pending_end = 0;
}

// Writes what the socket takes; a program that takes nothing more is no error, it may still be answering.
static uint32_t write_some(struct tcp_connection *connection, const uint8_t *data, uint32_t length) {
    uint32_t written = 0;
    while (written < length && connection->writable && !connection->output_ended) {
        ssize_t done = send(connection->fd, data + written, length - written, MSG_NOSIGNAL);
        if (done >= 0) {
            written += (uint32_t)done;
        } else if (errno == EAGAIN) {
            connection->writable = false;
        } else if (errno != EINTR) {
            connection->output_ended = true;
        }
    }
    return connection->output_ended ? length : written;
}

static void end_output(struct tcp_connection *connection) {
    if (!connection->host_ended || connection->pending || connection->output_ended) return;
    shutdown(connection->fd, SHUT_WR);
    connection->output_ended = true;
}

static bool flush_pending(struct tcp_connection *connection) {
    uint32_t length = connection->pending_end - connection->pending_start;
    if (!connection->pending || !connection->writable) return false;
    uint32_t written = write_some(connection, connection->pending + connection->pending_start, length);
    connection->pending_start += written;
    connection->ungranted += written;
    if (written == length) drop_pending(connection);
    end_output(connection);
    return written > 0;
}

static bool grant(struct agent *agent, struct stream *stream, struct tcp_connection *connection) {
    bool due = connection->ungranted >= PORT_WINDOW_BYTES / 4 || (connection->ungranted && !connection->pending);
    if (!due || connection->host_ended || !channel_has_room_for_reply(&agent->channel)) return false;
    stream_grant(agent, stream, connection->ungranted);
    connection->ungranted = 0;
    return true;
}

static void send_chunk(struct agent *agent, struct stream *stream, size_t length) {
    Guest__V1__PortChunk chunk = GUEST__V1__PORT_CHUNK__INIT;
    chunk.data = (ProtobufCBinaryData){length, read_buffer};
    chunk.eof = length == 0;
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_PORT_CHUNK;
    frame.port_chunk = &chunk;
    stream_send(agent, stream, &frame);
    stream->send_credit -= length;
}

// The errno of a connection that was reset behind the end of what it sent: nothing is read any more that would tell.
static int take_reset(struct tcp_connection *connection) {
    int error = 0;
    socklen_t length = sizeof error;
    if (connection->broken) getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    connection->broken = false;
    return error;
}

// Returns 0 when nothing can be done now, 1 after progress, or a negated errno.
static int forward(struct agent *agent, struct stream *stream, struct tcp_connection *connection) {
    if (connection->input_ended) return -take_reset(connection);
    if (!connection->readable) return 0;
    if (stream->send_credit == 0 || !channel_has_room_for_data(&agent->channel)) return 0;
    size_t wanted = stream->send_credit < sizeof read_buffer ? (size_t)stream->send_credit : sizeof read_buffer;
    ssize_t got = recv(connection->fd, read_buffer, wanted, 0);
    if (got < 0 && errno == EINTR) return 1;
    if (got < 0 && errno == EAGAIN) {
        connection->readable = false;
        return 0;
    }
    if (got < 0) return -errno;
    send_chunk(agent, stream, (size_t)got);
    connection->input_ended = got == 0;
    return 1;
}

static bool pump_tcp(struct agent *agent, struct stream *stream) {
    struct tcp_connection *connection = stream->owner;
    if (!connection->connected) return finish_connecting(agent, stream, connection);
    bool progress = flush_pending(connection);
    if (grant(agent, stream, connection)) progress = true;
    int forwarded = forward(agent, stream, connection);
    if (forwarded < 0) {
        stream_end_errno(agent, stream, -forwarded, "read port");
        return true;
    }
    if (connection->input_ended && connection->output_ended && channel_has_room_for_reply(&agent->channel)) {
        connection->finished = true;
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_OK, 0, NULL);
        return true;
    }
    return progress || forwarded > 0;
}

static bool keep_pending(struct tcp_connection *connection, const uint8_t *data, uint32_t length) {
    if (length == 0) return true;
    if (!connection->pending && !(connection->pending = malloc(PORT_WINDOW_BYTES))) return false;
    if (connection->pending_end + length > PORT_WINDOW_BYTES) {
        uint32_t held = connection->pending_end - connection->pending_start;
        memmove(connection->pending, connection->pending + connection->pending_start, held);
        connection->pending_start = 0;
        connection->pending_end = held;
    }
    // The credit is the window, and what is written is given back later: so it fits.
    if (connection->pending_end + length > PORT_WINDOW_BYTES) return false;
    memcpy(connection->pending + connection->pending_end, data, length);
    connection->pending_end += length;
    return true;
}

static void receive_chunk(struct agent *agent, struct stream *stream, const Guest__V1__Frame *frame) {
    if (frame->body_case != GUEST__V1__FRAME__BODY_PORT_CHUNK) return;
    struct tcp_connection *connection = stream->owner;
    if (!connection->connected || connection->host_ended) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_INVALID_ARGUMENT, 0, "a chunk out of order");
        return;
    }
    const ProtobufCBinaryData *data = &frame->port_chunk->data;
    uint32_t written = connection->pending ? 0 : write_some(connection, data->data, (uint32_t)data->len);
    connection->ungranted += written;
    connection->host_ended = frame->port_chunk->eof;
    if (!keep_pending(connection, data->data + written, (uint32_t)data->len - written)) {
        stream_end_errno(agent, stream, ENOMEM, "write port");
        return;
    }
    end_output(connection);
}

static void close_tcp(struct agent *agent, struct stream *stream) {
    struct tcp_connection *connection = stream->owner;
    close_socket(agent, connection);
    free(connection->pending);
    free(connection);
}

static const struct stream_kind tcp_kind = {.pump = pump_tcp, .receive = receive_chunk, .close = close_tcp};

static unsigned open_connections(const struct agent *agent) {
    unsigned count = 0;
    for (unsigned i = 0; i < MAX_STREAMS; i++) count += agent->streams[i].kind == &tcp_kind;
    return count;
}

void tcp_connect(struct agent *agent, struct stream *stream, const Guest__V1__ConnectPort *request) {
    bool valid = request->port >= 1 && request->port <= UINT16_MAX && request->window_bytes >= 1 &&
                 request->window_bytes <= INITIAL_CREDIT_BYTES;
    if (!valid) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_INVALID_ARGUMENT, EINVAL, "port or window");
        return;
    }
    if (open_connections(agent) >= MAX_PORT_STREAMS) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_RESOURCE_EXHAUSTED, EAGAIN,
                   "too many connections to ports");
        return;
    }
    struct tcp_connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        stream_end_errno(agent, stream, ENOMEM, "connect to port");
        return;
    }
    *connection = (struct tcp_connection){.source = {tcp_ready}, .fd = -1, .port = (uint16_t)request->port};
    stream->send_credit = request->window_bytes;
    stream->receive_credit = 0;
    stream->kind = &tcp_kind;
    stream->owner = connection;
    int error = try_next(agent, connection, 0);
    if (error) stream_end_errno(agent, stream, error, "connect to port");
}
