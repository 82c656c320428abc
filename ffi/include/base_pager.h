// State of torpor-base-pager: a snapshot, the memory file that its siblings map, and the siblings. Two processes have it: the server
// answers page faults, the keeper only holds what a successor of the server needs (base_pager_pair.c).
#pragma once

#include "pager.h"
#include "pager_control.h"

#include <stdbool.h>
#include <stdint.h>

enum torpor_watch_kind { TORPOR_WATCH_PARTNER, TORPOR_WATCH_SIGNALS, TORPOR_WATCH_SOCKET, TORPOR_WATCH_VMM, TORPOR_WATCH_FAULTS };

struct torpor_sibling;
struct torpor_watch {
    enum torpor_watch_kind kind;
    struct torpor_sibling *sibling; // NULL for partner and signals
};

// One VMM whose guest memory is a private mapping of the base.
struct torpor_sibling {
    struct torpor_sibling *next;
    uint64_t id; // the keeper's and the server's name for it
    struct torpor_pager_stats *stats;
    uint64_t address; // of the guest's memory in the VMM
    int stats_fd;
    int socket;    // the VMM's message stays in it: each server of this VMM reads it there
    int vmm_pidfd; // or -1
    int uffd;      // -1 before the handshake, and in the keeper
    bool left;     // freed after the events at hand
    struct torpor_watch on_socket, on_vmm, on_faults;
};

// Beside enum torpor_pager_exit: the other process is gone.
#define TORPOR_BASE_ALONE 100


struct torpor_base {
    struct torpor_pager reader; // header, sources, buffers, statistics and failure; no VMM of its own
    unsigned char *memory;      // shared mapping of the base memfd; NULL: see `sealed`
    int base_fd;
    int userfaultfd_device;
    int uffd;         // of `memory` in the server: registered so that only UFFDIO_COPY fills it
    bool sealed;      // both processes of an earlier pager were killed: nobody can fill the base any more, pages are copied to who asks
    uint64_t *filled; // bitmap: pages of the base that have their content
    int control;      // the agent's messages, read by the keeper
    int partner;      // socket between keeper and server
    struct torpor_control *operators; // the control socket, served by the keeper; inherited by the server that becomes one
    int signals;
    int epoll; // the server's
    int idle_ms;
    struct torpor_sibling *siblings;
    uint64_t last_sibling_id;
    uint32_t sibling_count;
    struct torpor_watch on_partner, on_signals;
};

// base_pager_memory.c

// Maps the base memfd and seals it. Returns 0 or an exit status.
int torpor_base_open(struct torpor_base *base);
// Makes the mapping fillable by this process, and notes what an earlier server has filled. Returns 0 or an exit status.
int torpor_base_register(struct torpor_base *base);
bool torpor_base_is_zero(struct torpor_base *base, uint64_t offset);
// Gives the page at `offset` (data), and what is missing around it, its content. Returns 0 or an exit status; `pages` counts.
int torpor_base_fill(struct torpor_base *base, uint64_t offset, uint64_t *pages);
// Fills the next part of the working set. Returns false when there is nothing left; *status as above.
bool torpor_base_prefetch(struct torpor_base *base, int *status);

// base_pager_siblings.c

// What a sibling consists of, between keeper and server; the last one is optional.
enum torpor_sibling_descriptor { TORPOR_SIBLING_SOCKET, TORPOR_SIBLING_STATS, TORPOR_SIBLING_PIDFD, TORPOR_SIBLING_DESCRIPTORS };

// Takes over a sibling's descriptors. With `first` its statistics get their layout, or say that
// another pager has served it before. Returns 0 or an errno; the descriptors are then closed.
int torpor_sibling_add(struct torpor_base *base, uint64_t id, const int *descriptors, uint32_t count, bool first,
                       struct torpor_sibling **added);
// Has the server look at the sibling's socket, and at its process. Returns 0 or an errno.
int torpor_sibling_watch(struct torpor_base *base, struct torpor_sibling *sibling);
// The VMM's message is there, or the socket has ended.
void torpor_sibling_take_handshake(struct torpor_base *base, struct torpor_sibling *sibling);
// The sibling is served no more: its VMM is gone (`failure` NULL) or does what it must not. The keeper is told.
void torpor_sibling_leave(struct torpor_base *base, struct torpor_sibling *sibling, const char *failure, int error);
// The keeper lets go of a sibling that the server has let go of.
void torpor_sibling_drop(struct torpor_base *base, struct torpor_sibling *sibling);
void torpor_base_free_left(struct torpor_base *base);

// base_pager_partner.c: what keeper and server tell each other

void torpor_partner_tell_join(struct torpor_base *base, const struct torpor_sibling *sibling);
void torpor_partner_tell_leave(struct torpor_base *base, uint64_t id);
// Returns false when the server does not read its messages.
bool torpor_partner_tell_prefetch(struct torpor_base *base, uint64_t first_page, uint64_t count);
// The server reads one message of the keeper. Returns false when the keeper is gone.
bool torpor_partner_take_message(struct torpor_base *base);
// The keeper reads all messages of the server.
void torpor_partner_take_leaves(struct torpor_base *base);

// base_pager_keep.c

// Keeps what a successor of the server needs until the server has ended. Returns an exit status, or TORPOR_BASE_ALONE when there is to be
// a successor.
int torpor_base_keep(struct torpor_base *base, int server);

// base_pager_pair.c

// Serves, as two processes, until a signal, or until there was no sibling for `idle_ms`. Returns an exit status.
int torpor_base_run(struct torpor_base *base);
// Writes the end into the statistics, and a failure to stderr.
void torpor_base_report_end(struct torpor_pager *reader, int status);

// base_pager_serve.c

// Serves until a signal, or until there was no sibling for `idle_ms`. Returns an exit status or TORPOR_BASE_ALONE.
int torpor_base_serve(struct torpor_base *base);

// base_pager_selftest.c

// Tries all that a shared base needs of this kernel. Returns NULL or what is missing.
const char *torpor_base_selftest(int userfaultfd_device);
