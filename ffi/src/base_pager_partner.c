// Keeper and server talk over a socket that keeps messages apart.
#include "base_pager.h"

#include "base_control.h"
#include "descriptor_passing.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

// JOIN (with a sibling's descriptors) and PREFETCH are the keeper's, LEAVE is the server's.
enum kind { JOIN, LEAVE, PREFETCH };

struct message {
    uint64_t kind;
    uint64_t subject; // a sibling's id, or the first page
    uint64_t count;   // of pages
};

// Never waits: faults would wait, too, or operators for a server that is busy.
static bool tell(struct torpor_base *base, enum kind kind, uint64_t subject, uint64_t count) {
    const struct message message = {kind, subject, count};
    return send(base->partner, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof message;
}

void torpor_partner_tell_join(struct torpor_base *base, const struct torpor_sibling *sibling) {
    const struct message message = {JOIN, sibling->id, 0};
    const int descriptors[TORPOR_SIBLING_DESCRIPTORS] = {[TORPOR_SIBLING_SOCKET] = sibling->socket,
                                                         [TORPOR_SIBLING_STATS] = sibling->stats_fd,
                                                         [TORPOR_SIBLING_PIDFD] = sibling->vmm_pidfd};
    const uint32_t count = sibling->vmm_pidfd < 0 ? TORPOR_SIBLING_PIDFD : TORPOR_SIBLING_DESCRIPTORS;
    // A server that has just ended needs no message: its successor has the sibling from here.
    (void)torpor_send_descriptors(base->partner, &message, sizeof message, descriptors, count);
}

void torpor_partner_tell_leave(struct torpor_base *base, uint64_t id) {
    (void)tell(base, LEAVE, id, 0); // a keeper that does not read keeps some descriptors too long, no more
}

bool torpor_partner_tell_prefetch(struct torpor_base *base, uint64_t first_page, uint64_t count) {
    return tell(base, PREFETCH, first_page, count);
}

static void take_join(struct torpor_base *base, uint64_t id, const int *descriptors, uint32_t count) {
    struct torpor_sibling *sibling;
    int error = torpor_sibling_add(base, id, descriptors, count, false, &sibling);
    if (error)
        torpor_partner_tell_leave(base, id);
    else if ((error = torpor_sibling_watch(base, sibling)))
        torpor_sibling_leave(base, sibling, "epoll_ctl", error);
}

bool torpor_partner_take_message(struct torpor_base *base) {
    struct message message;
    int descriptors[TORPOR_MAX_PASSED_DESCRIPTORS];
    uint32_t count;
    const int64_t length = torpor_receive_descriptors(base->partner, &message, sizeof message, descriptors, &count, 0, 0);
    if (length != sizeof message)
        return length == -ETIMEDOUT || length == -EMSGSIZE;
    if (message.kind == JOIN && count >= TORPOR_SIBLING_PIDFD)
        take_join(base, message.subject, descriptors, count);
    else if (message.kind == PREFETCH)
        (void)prefetch_put(&base->reader.queue, message.subject, message.count); // advice: what does not fit is left out
    return true;
}

void torpor_partner_take_leaves(struct torpor_base *base) {
    struct message message;
    while (recv(base->partner, &message, sizeof message, MSG_DONTWAIT) == sizeof message)
        for (struct torpor_sibling *sibling = base->siblings; sibling; sibling = sibling->next)
            if (message.kind == LEAVE && sibling->id == message.subject)
                torpor_sibling_drop(base, sibling);
    torpor_base_free_left(base);
}
