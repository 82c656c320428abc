// Siblings come and go. What one of them does wrong is its own end, never that of the pager: others depend on it.
#include "base_pager.h"

#include "base_control.h"
#include "descriptor_passing.h"
#include "kernel_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

static void close_descriptor(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int watch(struct torpor_base *base, int fd, struct torpor_watch *what, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = what};
    return fd >= 0 && epoll_ctl(base->epoll, EPOLL_CTL_ADD, fd, &event) ? errno : 0;
}

// Closing alone would not do: the VMM has the userfaultfd open as well, and the agent may have the others.
static void unwatch(struct torpor_base *base, int *fd) {
    if (*fd >= 0)
        (void)epoll_ctl(base->epoll, EPOLL_CTL_DEL, *fd, NULL); // ENOENT when it was never watched
    close_descriptor(fd);
}

static void release(struct torpor_base *base, struct torpor_sibling *sibling) {
    unwatch(base, &sibling->uffd);
    unwatch(base, &sibling->socket);
    unwatch(base, &sibling->vmm_pidfd);
    close_descriptor(&sibling->stats_fd);
    if (sibling->stats)
        munmap(sibling->stats, sibling->stats->total_bytes);
    sibling->stats = NULL;
}

int torpor_sibling_add(struct torpor_base *base, uint64_t id, const int *descriptors, uint32_t count, bool first,
                       struct torpor_sibling **added) {
    const uint64_t size = base->reader.header.size_bytes;
    struct torpor_sibling *sibling = calloc(1, sizeof *sibling);
    if (!sibling)
        return ENOMEM;
    *sibling = (struct torpor_sibling){.id = id,
                                       .stats_fd = descriptors[TORPOR_SIBLING_STATS],
                                       .socket = descriptors[TORPOR_SIBLING_SOCKET],
                                       .vmm_pidfd = count > TORPOR_SIBLING_PIDFD ? descriptors[TORPOR_SIBLING_PIDFD] : -1,
                                       .uffd = -1,
                                       .on_socket = {TORPOR_WATCH_SOCKET, sibling},
                                       .on_vmm = {TORPOR_WATCH_VMM, sibling},
                                       .on_faults = {TORPOR_WATCH_FAULTS, sibling}};
    sibling->stats = first ? torpor_pager_stats_open(sibling->stats_fd, size) : torpor_pager_stats_map(sibling->stats_fd, size);
    const int error = !sibling->stats ? errno : base->sibling_count >= TORPOR_MAX_SIBLINGS ? EMFILE : 0;
    if (error) {
        release(base, sibling);
        free(sibling);
        return error;
    }
    if (first)
        atomic_store(&sibling->stats->state, TORPOR_PAGER_WAITING);
    sibling->next = base->siblings;
    base->siblings = sibling;
    base->sibling_count++;
    *added = sibling;
    return 0;
}

int torpor_sibling_watch(struct torpor_base *base, struct torpor_sibling *sibling) {
    atomic_store(&sibling->stats->pid, (uint32_t)getpid());
    const int error = watch(base, sibling->socket, &sibling->on_socket, EPOLLIN);
    return error ? error : watch(base, sibling->vmm_pidfd, &sibling->on_vmm, EPOLLIN);
}

// A VMM that was taken over could send any descriptor.
static bool is_userfaultfd(int fd) {
    char path[32], target[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const ssize_t length = readlink(path, target, sizeof target);
    static const char wanted[] = "anon_inode:[userfaultfd]";
    return length == sizeof wanted - 1 && !memcmp(target, wanted, sizeof wanted - 1);
}

static const char *check_handshake(const struct torpor_base *base, const struct torpor_handshake *handshake, const int *descriptors,
                                   uint32_t count) {
    if (count != 1 || !is_userfaultfd(descriptors[0]))
        return "handshake does not carry exactly one userfaultfd";
    if (handshake->region_count != 1 || !torpor_handshake_covers(handshake, base->reader.header.size_bytes))
        return "handshake is not about one region of the snapshot's size";
    return NULL;
}

static void begin(struct torpor_base *base, struct torpor_sibling *sibling, const struct torpor_handshake *handshake) {
    const struct torpor_region *region = &handshake->regions[0];
    const int flags = fcntl(sibling->uffd, F_GETFL); // epoll of a blocking userfaultfd only reports an error
    if (flags < 0 || fcntl(sibling->uffd, F_SETFL, flags | O_NONBLOCK))
        return torpor_sibling_leave(base, sibling, "O_NONBLOCK", errno);
    sibling->address = region->base_host_virt_addr;
    sibling->stats->base_host_virt_addr = region->base_host_virt_addr;
    sibling->stats->region_count = 1;
    sibling->stats->tracking = 0;
    sibling->stats->uffd_fd = handshake->uffd_fd;
    const int error = watch(base, sibling->uffd, &sibling->on_faults, EPOLLIN);
    if (error)
        return torpor_sibling_leave(base, sibling, "epoll_ctl", error);
    atomic_store(&sibling->stats->state, TORPOR_PAGER_SERVING);
    // Faults that an earlier pager had read, but not answered, are delivered again.
    struct uffdio_range range = {region->base_host_virt_addr, region->size};
    if (ioctl(sibling->uffd, UFFDIO_WAKE, &range))
        torpor_sibling_leave(base, sibling, errno == ESRCH ? NULL : "UFFDIO_WAKE", errno);
}

// Looks at the VMM's message, which stays in the socket. Returns NULL or what is wrong; *gone when there will be none.
static const char *read_handshake(struct torpor_base *base, struct torpor_sibling *sibling, struct torpor_handshake *handshake,
                                  bool *gone, int *error) {
    char text[TORPOR_HANDSHAKE_BYTES];
    int descriptors[TORPOR_MAX_PASSED_DESCRIPTORS];
    uint32_t count;
    const int64_t length = torpor_receive_descriptors(sibling->socket, text, sizeof text, descriptors, &count, 0, 1);
    *gone = !length || length == -ECONNRESET;
    *error = length < 0 ? (int)-length : 0;
    const char *wrong = length < 0 ? "receiving the handshake" : NULL;
    if (length > 0)
        wrong = torpor_handshake_parse(text, (size_t)length, handshake);
    if (length > 0 && !wrong)
        wrong = check_handshake(base, handshake, descriptors, count);
    if (length > 0 && !wrong)
        sibling->uffd = descriptors[0];
    else
        for (uint32_t i = 0; i < count; i++)
            close(descriptors[i]);
    return wrong;
}

void torpor_sibling_take_handshake(struct torpor_base *base, struct torpor_sibling *sibling) {
    if (sibling->uffd >= 0) {
        // The socket has ended. An agent that handed over the userfaultfd has said all it had to; a VMM is gone.
        if (sibling->vmm_pidfd >= 0)
            (void)epoll_ctl(base->epoll, EPOLL_CTL_DEL, sibling->socket, NULL);
        else
            torpor_sibling_leave(base, sibling, NULL, 0);
        return;
    }
    bool gone;
    int error;
    struct torpor_handshake handshake = {0};
    const char *wrong = read_handshake(base, sibling, &handshake, &gone, &error);
    if (gone || wrong)
        return torpor_sibling_leave(base, sibling, gone ? NULL : wrong, gone ? 0 : error);
    struct epoll_event ended = {.events = EPOLLRDHUP, .data.ptr = &sibling->on_socket}; // the message would be readable for ever
    if (epoll_ctl(base->epoll, EPOLL_CTL_MOD, sibling->socket, &ended))
        return torpor_sibling_leave(base, sibling, "epoll_ctl", errno);
    begin(base, sibling, &handshake);
}

void torpor_sibling_leave(struct torpor_base *base, struct torpor_sibling *sibling, const char *failure, int error) {
    if (sibling->left)
        return;
    sibling->left = true;
    atomic_store(&sibling->stats->error, failure ? TORPOR_PAGER_USERFAULTFD : 0);
    atomic_store(&sibling->stats->error_number, failure ? error : 0);
    atomic_store(&sibling->stats->state, failure ? TORPOR_PAGER_FAILED : TORPOR_PAGER_STOPPED);
    if (failure)
        dprintf(STDERR_FILENO, "torpor-base-pager: a sibling is served no more: %s%s%s\n", failure, error ? ": " : "",
                error ? strerrorname_np(error) : "");
    release(base, sibling);
    base->sibling_count--;
    torpor_partner_tell_leave(base, sibling->id);
}

void torpor_sibling_drop(struct torpor_base *base, struct torpor_sibling *sibling) {
    if (sibling->left)
        return;
    const uint32_t state = sibling->stats->state;
    if (state != TORPOR_PAGER_STOPPED && state != TORPOR_PAGER_FAILED) // the server could not even begin
        atomic_store(&sibling->stats->state, TORPOR_PAGER_FAILED);
    sibling->left = true;
    release(base, sibling);
    base->sibling_count--;
}

void torpor_base_free_left(struct torpor_base *base) {
    for (struct torpor_sibling **at = &base->siblings; *at;) {
        struct torpor_sibling *sibling = *at;
        if (!sibling->left) {
            at = &sibling->next;
            continue;
        }
        *at = sibling->next;
        free(sibling);
    }
}
