// Pages that somebody asks to be fetched ahead: one thread puts ranges in, one takes pages out, without locks.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>

#define TORPOR_PREFETCH_RANGES 64u

struct torpor_prefetch_queue {
    struct {
        uint64_t first, count;
    } ranges[TORPOR_PREFETCH_RANGES];
    _Atomic uint32_t put, taken; // ranges so far
    uint64_t next, end;          // the taker's: what is left of the range that it took last
    int wake;                    // eventfd that the taker polls, or -1
};

// Returns false when too many ranges wait.
static inline bool prefetch_put(struct torpor_prefetch_queue *queue, uint64_t first, uint64_t count) {
    const uint32_t put = atomic_load_explicit(&queue->put, memory_order_relaxed);
    if (put - atomic_load_explicit(&queue->taken, memory_order_acquire) == TORPOR_PREFETCH_RANGES)
        return false;
    queue->ranges[put % TORPOR_PREFETCH_RANGES].first = first;
    queue->ranges[put % TORPOR_PREFETCH_RANGES].count = count;
    atomic_store_explicit(&queue->put, put + 1, memory_order_release);
    if (queue->wake >= 0)
        (void)eventfd_write(queue->wake, 1);
    return true;
}

static inline bool prefetch_waits(const struct torpor_prefetch_queue *queue) {
    return queue->next < queue->end || atomic_load_explicit(&queue->put, memory_order_acquire) != queue->taken;
}

// The next page; only when prefetch_waits.
static inline uint64_t prefetch_take(struct torpor_prefetch_queue *queue) {
    if (queue->next == queue->end) {
        const uint32_t taken = atomic_load_explicit(&queue->taken, memory_order_relaxed);
        queue->next = queue->ranges[taken % TORPOR_PREFETCH_RANGES].first;
        queue->end = queue->next + queue->ranges[taken % TORPOR_PREFETCH_RANGES].count;
        atomic_store_explicit(&queue->taken, taken + 1, memory_order_release);
    }
    return queue->next++;
}
