// Counting in a pager's statistics.
#pragma once

#include "page_bits.h"
#include "pager_stats.h"

#include <time.h>

// Only what a guest touches right after its resume is worth fetching ahead.
#define WORKING_SET_NS 300000000ull

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static inline void add(_Atomic uint64_t *counter, uint64_t amount) {
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

// A fault that was read at `read_ns` has been answered now, with data or `zero`.
static inline void count_answer(struct torpor_pager_stats *stats, bool zero, uint64_t read_ns) {
    const uint64_t now = now_ns(), elapsed = now - read_ns;
    const unsigned bucket = elapsed ? 63u - (unsigned)__builtin_clzll(elapsed) : 0;
    add(&stats->zero_faults, zero);
    add(&stats->faults, 1);
    add(&stats->latency[bucket < TORPOR_PAGER_LATENCY_BUCKETS ? bucket : TORPOR_PAGER_LATENCY_BUCKETS - 1], 1);
    if (!stats->first_fault_ns)
        stats->first_fault_ns = read_ns;
    stats->last_fault_ns = now;
}

// Notes a page's first fault. `seen`: pages that are in the order already.
static inline void note_order(struct torpor_pager_stats *stats, uint64_t *seen, uint64_t page, uint64_t read_ns) {
    if (get_bit(seen, page) || read_ns - stats->first_fault_ns >= WORKING_SET_NS)
        return;
    set_bits(seen, page, 1, true);
    torpor_pager_stats_order(stats)[stats->order_count] = (uint32_t)page;
    atomic_fetch_add_explicit(&stats->order_count, 1, memory_order_release);
}
