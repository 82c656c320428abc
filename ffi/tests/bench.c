// Speed of the native layer on this machine: one line per measurement.
#include "crc32c.h"
#include "rig.h"
#include "test.h"
#include "torpor.h"

#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ull
#define PAGES 131072ull // 512 MiB

const char *built_file(const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    const bool pager = !strcmp(name, "tests/torpor-pager"); // the one that is shipped, without sanitizers
    snprintf(path, sizeof paths[0], "%s/%s", getenv("TORPOR_TEST_BUILD"), pager ? "torpor-pager" : name);
    return path;
}

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

// Upper bound of the bucket below which `share` of the faults were answered.
static double latency_us(const struct rig *rig, double share) {
    uint64_t total = 0, seen = 0;
    for (int k = 0; k < TORPOR_PAGER_LATENCY_BUCKETS; k++)
        total += rig->stats->latency[k];
    for (int k = 0; k < TORPOR_PAGER_LATENCY_BUCKETS; k++)
        if ((double)(seen += rig->stats->latency[k]) >= share * (double)total)
            return (double)(2ull << k) / 1e3;
    return 0;
}

static void stream(const char *around, enum vmm_operation operation, bool tracking) {
    struct rig rig = start_rig(make_snapshot(1, PAGES, 2, 64), &(struct rig_options){.tracking = tracking, .fault_around = around});
    tell(&rig, VMM_ADDRESS, 0, 0, 0);
    while (rig.stats->state != TORPOR_PAGER_SERVING)
        sched_yield();
    const double start = now_ms();
    tell(&rig, operation, 0, rig.snapshot.size, 1);
    const double ms = now_ms() - start;
    printf("load 512 MiB, fault-around %s, %s%s: %.0f ms, %.0f MiB/s, %lu faults, %.0f faults/s, p50 < %.1f us, p99 < %.1f us\n", around,
           operation == VMM_READ ? "in order" : "scattered", tracking ? ", tracked" : "", ms, 512e3 / ms, rig.stats->faults,
           (double)rig.stats->faults * 1e3 / ms, latency_us(&rig, 0.5), latency_us(&rig, 0.99));
    stop_rig(&rig);
}

static void scan_and_compare(void) {
    struct rig rig = start_rig(make_snapshot(2, PAGES, 2, 64), &(struct rig_options){.tracking = true, .fault_around = "65536"});
    const uint64_t address = tell(&rig, VMM_ADDRESS, 0, 0, 0);
    tell(&rig, VMM_READ, 0, rig.snapshot.size, 0);
    for (uint64_t page = 0; page < PAGES; page += 13)
        tell(&rig, VMM_WRITE, page * PAGE, PAGE, page & 0xff);
    uint8_t *bitmap = calloc(1, PAGES / 8);
    double start = now_ms();
    int64_t pages = torpor_scan_dirty(rig.vmm, address, rig.snapshot.size, 0, bitmap);
    printf("scan of 512 MiB, %ld written pages: %.2f ms\n", pages, now_ms() - start);
    start = now_ms();
    pages = torpor_scan_dirty(rig.vmm, address, rig.snapshot.size, 1, bitmap);
    printf("the same with arming: %.2f ms\n", now_ms() - start);
    const struct snapshot *snapshot = &rig.snapshot;
    start = now_ms();
    pages = torpor_compare_dirty(rig.memfd, snapshot->size, snapshot->header, snapshot->header_length, snapshot->sources, 2, bitmap);
    printf("comparison of 512 MiB: %.0f ms\n", now_ms() - start);
    for (int full = 1; full >= 0; full--) {
        const int output = memfd_create("output", MFD_CLOEXEC);
        struct torpor_export_result result;
        start = now_ms();
        CHECK_EQ(torpor_export_memory(rig.memfd, snapshot->size, full ? NULL : bitmap, output, &result), 0);
        const double ms = now_ms() - start;
        printf("export of %lu pages in %lu runs to memory: %.0f ms, %.0f MiB/s\n", result.data_pages, result.run_count, ms,
               (double)result.bytes_written / 1048.576 / ms);
        torpor_free(result.runs);
        close(output);
    }
    free(bitmap);
    stop_rig(&rig);
}

static void checksums(void) {
    const uint64_t length = 64 << 20;
    unsigned char *bytes = malloc(length);
    memset(bytes, 5, length);
    double start = now_ms();
    const uint32_t fast = torpor_crc32c(0, bytes, length);
    const double hardware = now_ms() - start;
    start = now_ms();
    CHECK_EQ(torpor_crc32c_portable(0, bytes, length), fast);
    printf("CRC-32C: %.1f GB/s, portable %.1f GB/s\n", (double)length / hardware / 1e6, (double)length / (now_ms() - start) / 1e6);
    free(bytes);
}

// A table of a million extents: lookups of random pages, without a hint that helps.
static void lookups(void) {
    const uint64_t count = 1000000;
    struct torpor_extent *extents = calloc(count, sizeof *extents);
    for (uint64_t i = 0; i < count; i++)
        extents[i] = (struct torpor_extent){i * PAGE, PAGE, (count - i) * PAGE, 0, 0};
    const struct torpor_extent_header header = {.size_bytes = count * PAGE, .source_count = 1, .extent_count = count, .extents = extents};
    uint64_t seed = 1, sum = 0;
    const double start = now_ms();
    for (uint64_t i = 0; i < count; i++)
        sum += torpor_extent_find(&header, next_random(&seed) % count * PAGE, sum % count);
    printf("header_lookup_ns_1e6: %.0f\n", (now_ms() - start) * 1e6 / (double)count);
    CHECK(sum);
    free(extents);
}

int main(void) {
    static const char *const arounds[] = {"4096", "65536", "2097152"};
    for (int i = 0; i < 3; i++) {
        stream(arounds[i], VMM_READ, false);
        stream(arounds[i], VMM_COPY_OUT, false);
    }
    stream("65536", VMM_READ, true);
    scan_and_compare();
    checksums();
    lookups();
}
