// Frequency of the time-stamp counter: a guest without a timer to calibrate against is told it (tsc_early_khz=).
#include "torpor.h"

#include "export.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <x86intrin.h>

#define INTERVAL_NS 40000000l
#define TRIES 16

struct sample {
    uint64_t ns;
    uint64_t ticks;
};

static uint64_t raw_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

// Of several tries the one with the least time between the two counter reads: the thread was not interrupted in between.
static struct sample take_sample(void) {
    struct sample best = {0};
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < TRIES; i++) {
        const uint64_t before = __rdtsc(), ns = raw_ns(), after = __rdtsc();
        if (after - before >= least)
            continue;
        least = after - before;
        best = (struct sample){ns, before + (after - before) / 2};
    }
    return best;
}

static int64_t khz;

static void measure(void) {
    const struct timespec interval = {0, INTERVAL_NS};
    const struct sample first = take_sample();
    nanosleep(&interval, NULL);
    const struct sample last = take_sample();
    khz = (int64_t)((double)(last.ticks - first.ticks) * 1e6 / (double)(last.ns - first.ns) + 0.5);
}

TORPOR_EXPORT int64_t torpor_tsc_khz(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, measure);
    return khz;
}
