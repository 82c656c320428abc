// State of one torpor-pager process.
#pragma once

#include "extent_header.h"
#include "handshake.h"
#include "pager_stats.h"
#include "prefetch_queue.h"
#include "working_set.h"

#include <stdbool.h>
#include <stdint.h>

struct torpor_pager {
    struct torpor_extent_header header;
    struct torpor_handshake handshake;
    const int *sources; // header.source_count descriptors
    int uffd;
    int socket;      // the VMM's end closes when it is gone
    int vmm_pidfd;   // or -1; with it, the end of the socket means nothing
    int signals;     // signalfd with SIGTERM and SIGINT
    uint64_t fault_around_bytes;
    uint64_t extent_hint;
    struct torpor_working_set prefetch;
    uint32_t prefetch_next; // index of the first page not looked at yet
    struct torpor_prefetch_queue queue; // fetched after that
    unsigned char *buffer;     // fault_around_bytes, page aligned
    const unsigned char *zero; // fault_around_bytes of zeros
    uint64_t *seen;            // bitmap: pages already in the fault order
    uint64_t *present;         // bitmap: pages that this pager knows to be there; only a hint, the kernel decides
    struct torpor_pager_stats *stats;
    const char *failure; // what went wrong, for the last message
    int failure_errno;
};

// Reads and validates the extent header, which stays in memory for as long as the process lives. Returns 0 or an exit status.
int torpor_pager_read_header(struct torpor_pager *pager, int header_fd, uint32_t source_count);

// Opens nothing: checks that each source is as long as its extents say. Returns 0 or TORPOR_PAGER_SOURCE.
int torpor_pager_check_sources(struct torpor_pager *pager);

// Reads [offset, offset + length) of the guest's memory, which lies in data extents only, into pager->buffer.
// Returns 0 or TORPOR_PAGER_READ.
int torpor_pager_read(struct torpor_pager *pager, uint64_t offset, uint64_t length);

// Serves faults until the VMM is gone or a signal arrives. Returns the exit status.
int torpor_pager_serve(struct torpor_pager *pager);

// Remembers the reason of a failure and returns `status`.
int torpor_pager_fail(struct torpor_pager *pager, int status, const char *what, int error);
