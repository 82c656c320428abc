// The control socket: accepting, reading lines, writing answers.
#include "pager_control.h"

#include "pager_counters.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_NS (TORPOR_CONTROL_PATIENCE_MS * 1000000ull)

// Binds a name that nobody but this user can open, from the first moment on.
static int bind_privately(int fd, const struct sockaddr_un *address) {
    const mode_t before = umask(0177);
    const int error = bind(fd, (const struct sockaddr *)address, sizeof *address) ? -errno : 0;
    umask(before);
    return error;
}

static void begin(struct torpor_control *control, const char *path) {
    control->listener = -1;
    control->path = path;
    for (uint32_t i = 0; i < TORPOR_CONTROL_CLIENTS; i++)
        control->clients[i].fd = -1;
}

int torpor_control_take(struct torpor_control *control, int listener) {
    begin(control, NULL);
    const int flags = fcntl(listener, F_GETFL);
    if (flags < 0 || fcntl(listener, F_SETFL, flags | O_NONBLOCK) || fcntl(listener, F_SETFD, FD_CLOEXEC))
        return -errno;
    control->listener = listener;
    return 0;
}

int torpor_control_open(struct torpor_control *control, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    begin(control, path);
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int error = unlink(path) && errno != ENOENT ? -errno : bind_privately(fd, &address);
    if (!error && listen(fd, TORPOR_CONTROL_CLIENTS))
        error = -errno;
    if (error)
        close(fd);
    else
        control->listener = fd;
    return error;
}

void torpor_control_close(struct torpor_control *control) {
    if (control->listener < 0)
        return;
    if (control->path)
        unlink(control->path);
    close(control->listener);
    control->listener = -1;
}

static void drop(struct torpor_control_client *client) {
    close(client->fd);
    client->fd = -1;
}

void torpor_control_drop_clients(struct torpor_control *control) {
    for (uint32_t i = 0; control->listener >= 0 && i < TORPOR_CONTROL_CLIENTS; i++)
        if (control->clients[i].fd >= 0)
            drop(&control->clients[i]);
}

static bool is_answered(const struct torpor_control_client *client) {
    return client->out_done == client->out_length;
}

static void accept_one(struct torpor_control *control) {
    const int fd = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (uint32_t i = 0; i < TORPOR_CONTROL_CLIENTS; i++) {
        struct torpor_control_client *client = &control->clients[i];
        if (client->fd >= 0)
            continue;
        client->fd = fd;
        client->ended = false;
        client->in_length = client->out_length = client->out_done = 0;
        client->deadline_ns = now_ns() + PATIENCE_NS;
        return;
    }
    close(fd); // too many at once
}

__attribute__((format(printf, 2, 3))) static void say(struct torpor_control_client *client, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(client->out, sizeof client->out, format, arguments);
    va_end(arguments);
    client->out_length = length < 0 ? 0 : (uint32_t)length;
    client->out_done = 0;
}

static void obey(struct torpor_control *control, struct torpor_control_client *client, const char *line, uint32_t length) {
    struct torpor_control_command command = {0};
    const char *wrong = torpor_control_parse(line, length, control->stats->page_count, &command);
    if (!wrong && command.kind == TORPOR_CONTROL_PREFETCH && !control->prefetch(control->context, command.first, command.count))
        wrong = "busy";
    client->out_done = 0;
    if (wrong)
        say(client, "{\"error\":\"%s\"}\n", wrong);
    else if (command.kind == TORPOR_CONTROL_PREFETCH)
        say(client, "{\"queued\":%lu}\n", command.count);
    else
        client->out_length = torpor_pager_stats_json(client->out, sizeof client->out, control->stats, control->siblings);
}

void torpor_control_answer(struct torpor_control *control, struct torpor_control_client *client) {
    if (!is_answered(client))
        return;
    const char *end = memchr(client->in, '\n', client->in_length);
    if (end) {
        const uint32_t length = (uint32_t)(end - client->in), rest = client->in_length - length - 1;
        obey(control, client, client->in, length);
        memmove(client->in, end + 1, rest);
        client->in_length = rest;
    } else if (client->in_length == sizeof client->in) {
        say(client, "{\"error\":\"line_too_long\"}\n");
        client->in_length = 0;
        client->ended = true;
    }
}

// Returns false when the client is to be dropped.
static bool read_more(struct torpor_control_client *client) {
    const ssize_t got = recv(client->fd, client->in + client->in_length, sizeof client->in - client->in_length, MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    client->ended = !got;
    client->in_length += (uint32_t)got;
    return true;
}

static bool write_more(struct torpor_control_client *client) {
    const ssize_t sent = send(client->fd, client->out + client->out_done, client->out_length - client->out_done,
                              MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR;
    client->out_done += (uint32_t)sent;
    if (is_answered(client))
        client->deadline_ns = now_ns() + PATIENCE_NS;
    return true;
}

// One read, then as many answers as the socket takes. Returns false when the client is to be dropped.
static bool serve(struct torpor_control *control, struct torpor_control_client *client) {
    if (is_answered(client) && !client->ended && !read_more(client))
        return false;
    do {
        torpor_control_answer(control, client);
        if (is_answered(client))
            return !client->ended;
        if (!write_more(client))
            return false;
    } while (is_answered(client));
    return true;
}

int torpor_control_watch(struct torpor_control *control, struct pollfd *fds) {
    const uint64_t now = now_ns();
    uint64_t wait_ns = UINT64_MAX;
    fds[0] = (struct pollfd){.fd = control->listener, .events = POLLIN};
    for (uint32_t i = 0; i < TORPOR_CONTROL_CLIENTS; i++) {
        const struct torpor_control_client *client = &control->clients[i];
        const int fd = control->listener < 0 ? -1 : client->fd;
        fds[i + 1] = (struct pollfd){.fd = fd, .events = is_answered(client) ? POLLIN : POLLOUT};
        if (fd >= 0) {
            const uint64_t left = client->deadline_ns > now ? client->deadline_ns - now : 0;
            wait_ns = left < wait_ns ? left : wait_ns;
        }
    }
    return wait_ns == UINT64_MAX ? -1 : (int)(wait_ns / 1000000) + 1;
}

void torpor_control_step(struct torpor_control *control, const struct pollfd *fds) {
    const uint64_t now = now_ns();
    for (uint32_t i = 0; i < TORPOR_CONTROL_CLIENTS; i++) {
        struct torpor_control_client *client = &control->clients[i];
        if (fds[i + 1].fd < 0 || fds[i + 1].fd != client->fd)
            continue;
        if ((fds[i + 1].revents && !serve(control, client)) || now >= client->deadline_ns)
            drop(client);
    }
    if (fds[0].revents)
        accept_one(control);
}

static void *run(void *argument) {
    struct torpor_control *control = argument;
    struct pollfd fds[TORPOR_CONTROL_POLLFDS];
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 0); // the thread that serves faults has another one
    for (;;) {
        const int timeout_ms = torpor_control_watch(control, fds);
        if (poll(fds, TORPOR_CONTROL_POLLFDS, timeout_ms) >= 0)
            torpor_control_step(control, fds);
        else if (errno != EINTR)
            return NULL; // no answers any more; faults are served as before
    }
}

int torpor_control_start_thread(struct torpor_control *control) {
    pthread_t thread;
    const int error = pthread_create(&thread, NULL, run, control);
    if (!error)
        pthread_detach(thread);
    return error;
}
