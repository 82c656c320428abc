// What a pager tells about itself: a memfd made by the agent (sealed against shrinking), written by the pager, read by anyone with pread.
// It outlives the pager, so that a successor goes on with the same removed pages and counters. ffi/pager_stats.ts reads this layout.
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define TORPOR_PAGER_STATS_MAGIC 0x53505250524f54ull // "TORPRPS"
#define TORPOR_PAGER_STATS_VERSION 2u
#define TORPOR_PAGER_COUNTED_SOURCES 64
#define TORPOR_PAGER_LATENCY_BUCKETS 40

enum torpor_pager_state {
    TORPOR_PAGER_STARTING = 0,
    TORPOR_PAGER_WAITING = 1, // for the handshake
    TORPOR_PAGER_SERVING = 2,
    TORPOR_PAGER_STOPPED = 3,
    TORPOR_PAGER_FAILED = 4,
};

// Exit status of torpor-pager, also in torpor_pager_stats.error.
enum torpor_pager_exit {
    TORPOR_PAGER_OK = 0,         // the VMM is gone or SIGTERM
    TORPOR_PAGER_USAGE = 2,      // arguments, or the statistics memfd is unusable
    TORPOR_PAGER_HEADER = 3,     // the extent header breaks a rule
    TORPOR_PAGER_SOURCE = 4,     // a source is missing or shorter than its extents
    TORPOR_PAGER_USERFAULTFD = 5, // handshake or userfaultfd
    TORPOR_PAGER_READ = 6,       // a source could not be read while serving
};

struct torpor_pager_stats {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes; // sizeof(struct torpor_pager_stats)
    uint64_t memory_bytes;
    uint64_t page_count;
    uint64_t order_offset;   // uint32_t[page_count]: page numbers in the order of their first fault, of the first 300 ms
    uint64_t removed_offset; // bitmap, least significant bit first: pages that the guest gave back, zero from then on
    uint64_t total_bytes;
    uint64_t base_host_virt_addr; // of the first region
    _Atomic uint32_t state;
    _Atomic uint32_t error;       // enum torpor_pager_exit
    _Atomic int32_t error_number; // errno or 0
    int32_t uffd_fd;              // number of the userfaultfd in the VMM, -1 if it did not say
    uint32_t tracking;
    uint32_t region_count;
    _Atomic uint32_t pid;
    _Atomic uint32_t adoptions; // pagers before this one
    _Atomic uint64_t faults;
    _Atomic uint64_t data_pages_served;
    _Atomic uint64_t zero_pages_served;
    _Atomic uint64_t fault_around_pages; // of the pages served, those that did not fault themselves
    _Atomic uint64_t removes;
    _Atomic uint64_t removed_pages;
    _Atomic uint64_t eexist;
    _Atomic uint64_t eagain;
    _Atomic uint64_t first_fault_ns; // CLOCK_MONOTONIC, 0 = none yet
    _Atomic uint64_t last_fault_ns;
    _Atomic uint64_t order_count;
    _Atomic uint64_t bytes_read[TORPOR_PAGER_COUNTED_SOURCES + 1]; // the last one sums the sources beyond
    _Atomic uint64_t latency[TORPOR_PAGER_LATENCY_BUCKETS];        // [k]: faults served in [2^k, 2^(k+1)) ns
    _Atomic uint64_t prefetched_pages;                             // installed before anybody asked for them
    _Atomic uint64_t prefetch_end_ns;                              // CLOCK_MONOTONIC, 0 = not yet, or nothing to prefetch
    _Atomic uint64_t zero_faults;                                  // of the faults, those that were answered with zeros
    uint64_t reserved[5];
};
_Static_assert(offsetof(struct torpor_pager_stats, order_offset) == 32, "ffi/pager_stats.ts reads this offset");
_Static_assert(offsetof(struct torpor_pager_stats, removed_offset) == 40, "ffi/pager_stats.ts reads this offset");
_Static_assert(offsetof(struct torpor_pager_stats, state) == 64, "ffi/pager_stats.ts reads this offset");
_Static_assert(offsetof(struct torpor_pager_stats, faults) == 96, "ffi/pager_stats.ts reads this offset");
_Static_assert(offsetof(struct torpor_pager_stats, bytes_read) == 184, "ffi/pager_stats.ts reads this offset");
_Static_assert(offsetof(struct torpor_pager_stats, latency) == 704, "ffi/pager_stats.ts reads this offset");
_Static_assert(offsetof(struct torpor_pager_stats, prefetched_pages) == 1024, "ffi/pager_stats.ts reads this offset");
_Static_assert(offsetof(struct torpor_pager_stats, zero_faults) == 1040, "ffi/pager_stats.ts reads this offset");
_Static_assert(sizeof(struct torpor_pager_stats) == 1088, "ffi/pager_stats.ts reads this size");

// Bytes of the memfd for a guest of `memory_bytes` (a multiple of the page size). It is sparse: only what is written takes memory.
uint64_t torpor_pager_stats_size(uint64_t memory_bytes);

// Maps the memfd and lays it out, or goes on with what an earlier pager left. Returns NULL and sets errno: EINVAL when size, seal
// (F_SEAL_SHRINK) or contents do not fit.
struct torpor_pager_stats *torpor_pager_stats_open(int fd, uint64_t memory_bytes);

// Maps the memfd again in another process that serves the same VMM: it has a layout. Returns NULL and sets errno.
struct torpor_pager_stats *torpor_pager_stats_map(int fd, uint64_t memory_bytes);

// Sets in the empty bitmap `seen` the pages that an earlier pager has put into the order.
void torpor_pager_stats_seen(struct torpor_pager_stats *stats, uint64_t *seen);

static inline uint32_t *torpor_pager_stats_order(struct torpor_pager_stats *stats) {
    return (uint32_t *)((char *)stats + stats->order_offset);
}

static inline _Atomic uint64_t *torpor_pager_stats_removed(struct torpor_pager_stats *stats) {
    return (_Atomic uint64_t *)((char *)stats + stats->removed_offset);
}
