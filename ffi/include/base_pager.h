// State of one torpor-base-pager process: a snapshot, the memory file that its siblings map, and the siblings.
#pragma once

#include "pager.h"

#include <stdbool.h>
#include <stdint.h>

enum torpor_watch_kind { TORPOR_WATCH_CONTROL, TORPOR_WATCH_SIGNALS, TORPOR_WATCH_SOCKET, TORPOR_WATCH_VMM, TORPOR_WATCH_FAULTS };

struct torpor_sibling;
struct torpor_watch {
    enum torpor_watch_kind kind;
    struct torpor_sibling *sibling; // NULL for control and signals
};

// One VMM whose guest memory is a private mapping of the base.
struct torpor_sibling {
    struct torpor_sibling *next;
    struct torpor_pager_stats *stats;
    uint64_t address; // of the guest's memory in the VMM
    int stats_fd;
    int socket;
    int vmm_pidfd; // or -1
    int uffd;      // -1 before the handshake
    bool left;     // freed after the events at hand
    struct torpor_watch on_socket, on_vmm, on_faults;
};

struct torpor_base {
    struct torpor_pager reader; // header, sources, buffers, statistics and failure; no VMM of its own
    unsigned char *memory;      // shared mapping of the base memfd, registered so that only UFFDIO_COPY fills it; NULL: see `sealed`
    int uffd;                   // of `memory`
    bool sealed;                // an earlier pager sealed the base: nobody can fill it any more, pages are copied to who asks
    uint64_t *filled;           // bitmap: pages of the base that have their content
    int control;
    int epoll;
    int idle_ms;
    struct torpor_sibling *siblings;
    uint32_t sibling_count;
    struct torpor_watch on_control, on_signals;
};

// base_pager_memory.c

// Maps, registers and seals the base memfd. Returns 0 or an exit status.
int torpor_base_open(struct torpor_base *base, int base_fd, int userfaultfd_device);
bool torpor_base_is_zero(struct torpor_base *base, uint64_t offset);
// Gives the page at `offset` (data), and what is missing around it, its content. Returns 0 or an exit status; `pages` counts.
int torpor_base_fill(struct torpor_base *base, uint64_t offset, uint64_t *pages);
// Fills the next part of the working set. Returns false when there is nothing left; *status as above.
bool torpor_base_prefetch(struct torpor_base *base, int *status);

// base_pager_siblings.c

// Reads one message of the agent. Returns 0 or an exit status.
int torpor_base_take_message(struct torpor_base *base);
void torpor_sibling_take_handshake(struct torpor_base *base, struct torpor_sibling *sibling);
// The sibling is served no more: its VMM is gone (`failure` NULL) or does what it must not.
void torpor_sibling_leave(struct torpor_base *base, struct torpor_sibling *sibling, const char *failure, int error);
void torpor_base_free_left(struct torpor_base *base);

// base_pager_serve.c

// Serves until a signal, or until there was no sibling for `idle_ms`. Returns an exit status.
int torpor_base_serve(struct torpor_base *base);

// base_pager_selftest.c

// Tries all that a shared base needs of this kernel. Returns NULL or what is missing.
const char *torpor_base_selftest(int userfaultfd_device);
