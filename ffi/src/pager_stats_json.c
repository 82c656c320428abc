// A pager's statistics for people and tools. Field names are those of pager_stats.h; ffi/README.md explains them.
#include "pager_control.h"

#include <stdarg.h>
#include <stdio.h>

struct text {
    char *at;
    uint32_t left;
    bool full;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int length = text->full ? -1 : vsnprintf(text->at, text->left, format, arguments);
    va_end(arguments);
    text->full = length < 0 || (uint32_t)length >= text->left;
    if (text->full)
        return;
    text->at += length;
    text->left -= (uint32_t)length;
}

// Without the zeros at the end.
static void put_array(struct text *text, const char *name, const _Atomic uint64_t *values, uint32_t count) {
    while (count && !values[count - 1])
        count--;
    put(text, "\"%s\":[", name);
    for (uint32_t i = 0; i < count; i++)
        put(text, "%s%lu", i ? "," : "", values[i]);
    put(text, "]");
}

// Upper end of the bucket that the share of `percent` falls into: each bucket spans a power of two.
static uint64_t percentile_ns(const _Atomic uint64_t *latency, unsigned percent) {
    uint64_t total = 0, before = 0;
    for (unsigned k = 0; k < TORPOR_PAGER_LATENCY_BUCKETS; k++)
        total += latency[k];
    for (unsigned k = 0; total && k < TORPOR_PAGER_LATENCY_BUCKETS; k++)
        if ((before += latency[k]) * 100 >= total * percent)
            return 2ull << k;
    return 0;
}

static const char *state_name(uint32_t state) {
    static const char *const names[] = {"starting", "waiting", "serving", "stopped", "failed"};
    return state < sizeof names / sizeof *names ? names[state] : "unknown";
}

uint32_t torpor_pager_stats_json(char *text, uint32_t capacity, struct torpor_pager_stats *stats, const uint32_t *siblings) {
    struct text to = {text, capacity, false};
    const uint64_t faults = stats->faults, zero = stats->zero_faults < faults ? stats->zero_faults : faults;
    put(&to, "{\"kind\":\"%s\",\"state\":\"%s\",\"pid\":%u,\"error\":%u,\"error_number\":%d,\"adoptions\":%u,",
        siblings ? "base" : "sandbox", state_name(stats->state), stats->pid, stats->error, stats->error_number, stats->adoptions);
    if (siblings)
        put(&to, "\"siblings\":%u,", *siblings);
    put(&to, "\"memory_bytes\":%lu,\"page_count\":%lu,\"tracking\":%s,", stats->memory_bytes, stats->page_count,
        stats->tracking ? "true" : "false");
    put(&to, "\"faults\":%lu,\"data_faults\":%lu,\"zero_faults\":%lu,", faults, faults - zero, zero);
    put(&to, "\"data_pages_served\":%lu,\"zero_pages_served\":%lu,\"fault_around_pages\":%lu,", stats->data_pages_served,
        stats->zero_pages_served, stats->fault_around_pages);
    put(&to, "\"prefetched_pages\":%lu,\"prefetch_end_ns\":%lu,\"removes\":%lu,\"removed_pages\":%lu,", stats->prefetched_pages,
        stats->prefetch_end_ns, stats->removes, stats->removed_pages);
    put(&to, "\"eexist\":%lu,\"eagain\":%lu,\"working_set_pages\":%lu,", stats->eexist, stats->eagain, stats->order_count);
    put(&to, "\"first_fault_ns\":%lu,\"last_fault_ns\":%lu,", stats->first_fault_ns, stats->last_fault_ns);
    put_array(&to, "bytes_read", stats->bytes_read, TORPOR_PAGER_COUNTED_SOURCES + 1);
    put(&to, ",\"latency_p50_ns\":%lu,\"latency_p99_ns\":%lu,", percentile_ns(stats->latency, 50), percentile_ns(stats->latency, 99));
    put_array(&to, "latency_log2_ns", stats->latency, TORPOR_PAGER_LATENCY_BUCKETS);
    put(&to, "}\n");
    return to.full ? 0 : capacity - to.left;
}
