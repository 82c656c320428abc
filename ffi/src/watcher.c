// One thread that waits for any number of processes and writes a record for each that ends.
#include "torpor.h"

#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct watched {
    struct watched *next;
    struct watched **link; // what points to this one
    int pidfd;
    uint64_t token;
};

struct torpor_watcher {
    pthread_t thread;
    pthread_mutex_t lock; // of `first`
    struct watched *first;
    int epoll;
    int stop;    // eventfd
    int records; // the thread's end of the socket pair
};

static void forget(struct torpor_watcher *watcher, struct watched *process) {
    pthread_mutex_lock(&watcher->lock);
    *process->link = process->next;
    if (process->next)
        process->next->link = process->link;
    pthread_mutex_unlock(&watcher->lock);
    close(process->pidfd);
    free(process);
}

static struct torpor_exit_record reap(const struct watched *process) {
    struct torpor_exit_record record = {process->token, -1, -1};
    siginfo_t info = {0};
    int result;
    do
        result = waitid(P_PIDFD, (id_t)process->pidfd, &info, WEXITED);
    while (result && errno == EINTR);
    if (!result && info.si_code == CLD_EXITED)
        record.code = info.si_status;
    else if (!result)
        record.signal = info.si_status;
    return record;
}

static void tell(struct torpor_watcher *watcher, struct watched *process) {
    // Closing would not do: the caller's pidfd refers to the same file and keeps it in the epoll set.
    epoll_ctl(watcher->epoll, EPOLL_CTL_DEL, process->pidfd, NULL);
    const struct torpor_exit_record record = reap(process);
    // The reader may have closed its end; there is nobody left to tell then.
    (void)!send(watcher->records, &record, sizeof record, MSG_NOSIGNAL);
    forget(watcher, process);
}

static void *watch(void *argument) {
    struct torpor_watcher *watcher = argument;
    struct epoll_event events[32];
    for (;;) {
        const int count = epoll_wait(watcher->epoll, events, sizeof events / sizeof *events, -1);
        for (int i = 0; i < count; i++) {
            if (!events[i].data.ptr)
                return NULL;
            tell(watcher, events[i].data.ptr);
        }
    }
}

static int add_event(int epoll, int fd, void *pointer) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = pointer};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

// Signals are the caller's business: none may be delivered to the watcher's thread.
static int start_thread(struct torpor_watcher *watcher) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&watcher->thread, NULL, watch, watcher);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

static void release(struct torpor_watcher *watcher) {
    while (watcher->first)
        forget(watcher, watcher->first);
    const int descriptors[] = {watcher->epoll, watcher->stop, watcher->records};
    for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++)
        if (descriptors[i] >= 0)
            close(descriptors[i]);
    pthread_mutex_destroy(&watcher->lock);
    free(watcher);
}

static int open_descriptors(struct torpor_watcher *watcher, int *socket) {
    int pair[2];
    watcher->epoll = epoll_create1(EPOLL_CLOEXEC);
    watcher->stop = eventfd(0, EFD_CLOEXEC);
    if (watcher->epoll < 0 || watcher->stop < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return -errno;
    watcher->records = pair[0];
    *socket = pair[1];
    return add_event(watcher->epoll, watcher->stop, NULL);
}

TORPOR_EXPORT struct torpor_watcher *torpor_watcher_start(int *socket) {
    struct torpor_watcher *watcher = calloc(1, sizeof *watcher);
    *socket = -ENOMEM;
    if (!watcher)
        return NULL;
    watcher->epoll = watcher->stop = watcher->records = -1;
    pthread_mutex_init(&watcher->lock, NULL);
    int reader = -1;
    int error = open_descriptors(watcher, &reader);
    if (!error)
        error = start_thread(watcher);
    if (error) {
        if (reader >= 0)
            close(reader);
        release(watcher);
        *socket = error;
        return NULL;
    }
    *socket = reader;
    return watcher;
}

TORPOR_EXPORT int torpor_watcher_add(struct torpor_watcher *watcher, int pidfd, uint64_t token) {
    struct watched *process = calloc(1, sizeof *process);
    if (!process)
        return -ENOMEM;
    process->token = token;
    process->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
    if (process->pidfd < 0) {
        const int error = errno;
        free(process);
        return -error;
    }
    pthread_mutex_lock(&watcher->lock);
    process->next = watcher->first;
    process->link = &watcher->first;
    if (process->next)
        process->next->link = &process->next;
    watcher->first = process;
    pthread_mutex_unlock(&watcher->lock);
    const int error = add_event(watcher->epoll, process->pidfd, process);
    if (error)
        forget(watcher, process);
    return error;
}

TORPOR_EXPORT void torpor_watcher_stop(struct torpor_watcher *watcher) {
    const uint64_t one = 1;
    shutdown(watcher->records, SHUT_RDWR); // a thread that waits for room in the socket goes on
    (void)!write(watcher->stop, &one, sizeof one);
    pthread_join(watcher->thread, NULL);
    release(watcher);
}
