// Keeper and server talk over a socket that keeps messages apart. Each message names a sibling; the keeper's carry its descriptors.
#include "base_pager.h"

#include "base_control.h"
#include "descriptor_passing.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

void torpor_partner_tell_join(struct torpor_base *base, const struct torpor_sibling *sibling) {
    const int descriptors[TORPOR_SIBLING_DESCRIPTORS] = {[TORPOR_SIBLING_SOCKET] = sibling->socket,
                                                         [TORPOR_SIBLING_STATS] = sibling->stats_fd,
                                                         [TORPOR_SIBLING_PIDFD] = sibling->vmm_pidfd};
    const uint32_t count = sibling->vmm_pidfd < 0 ? TORPOR_SIBLING_PIDFD : TORPOR_SIBLING_DESCRIPTORS;
    // A server that has just ended needs no message: its successor has the sibling from here.
    (void)torpor_send_descriptors(base->partner, &sibling->id, sizeof sibling->id, descriptors, count);
}

void torpor_partner_tell_leave(struct torpor_base *base, uint64_t id) {
    // Never waits: faults would wait, too. A keeper that does not read keeps some descriptors too long, no more.
    (void)send(base->partner, &id, sizeof id, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void close_all(const int *descriptors, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        close(descriptors[i]);
}

bool torpor_partner_take_join(struct torpor_base *base) {
    uint64_t id;
    int descriptors[TORPOR_MAX_PASSED_DESCRIPTORS];
    uint32_t count;
    const int64_t length = torpor_receive_descriptors(base->partner, &id, sizeof id, descriptors, &count, 0, 0);
    if (length != sizeof id || (count != TORPOR_SIBLING_PIDFD && count != TORPOR_SIBLING_DESCRIPTORS)) {
        close_all(descriptors, count);
        return length > 0 || length == -ETIMEDOUT || length == -EMSGSIZE;
    }
    struct torpor_sibling *sibling;
    int error = torpor_sibling_add(base, id, descriptors, count, false, &sibling);
    if (error)
        torpor_partner_tell_leave(base, id);
    else if ((error = torpor_sibling_watch(base, sibling)))
        torpor_sibling_leave(base, sibling, "epoll_ctl", error);
    return true;
}

void torpor_partner_take_leaves(struct torpor_base *base) {
    uint64_t id;
    while (recv(base->partner, &id, sizeof id, MSG_DONTWAIT) == sizeof id)
        for (struct torpor_sibling *sibling = base->siblings; sibling; sibling = sibling->next)
            if (sibling->id == id)
                torpor_sibling_drop(base, sibling);
    torpor_base_free_left(base);
}
