// Speed of the native layer on this machine: one line per measurement.
#include "crc32c.h"
#include "kernel_compat.h"
#include "rig.h"
#include "test.h"
#include "torpor.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
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

// The time within which `share` of the faults were answered: interpolated inside of its bucket, which spans a power of two.
static double latency_us(const struct rig *rig, double share) {
    double total = 0, before = 0;
    for (int k = 0; k < TORPOR_PAGER_LATENCY_BUCKETS; k++)
        total += (double)rig->stats->latency[k];
    for (int k = 0; k < TORPOR_PAGER_LATENCY_BUCKETS; k++) {
        const double count = (double)rig->stats->latency[k];
        if (count > 0 && before + count >= share * total)
            return (double)(1ull << k) * (1 + (share * total - before) / count) / 1e3;
        before += count;
    }
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
    printf("load 512 MiB, fault-around %s, %s%s: %.0f ms, %.0f MiB/s, %lu faults, %.0f faults/s, p50 %.1f us, p99 %.1f us\n", around,
           operation == VMM_READ ? "in order" : "scattered", tracking ? ", tracked" : "", ms, 512e3 / ms, rig.stats->faults,
           (double)rig.stats->faults * 1e3 / ms, latency_us(&rig, 0.5), latency_us(&rig, 0.99));
    stop_rig(&rig);
}

struct bare {
    int uffd;
    unsigned char *memory;
};

static void *answer_bare(void *argument) {
    const struct bare *bare = argument;
    static unsigned char page[PAGE] __attribute__((aligned(4096))) = {1};
    for (uint64_t answered = 0; answered < PAGES;) {
        struct uffd_msg event;
        if (read(bare->uffd, &event, sizeof event) != sizeof event)
            continue;
        struct uffdio_copy copy = {.dst = event.arg.pagefault.address & ~(PAGE - 1), .src = (uintptr_t)page, .len = PAGE};
        CHECK_EQ(ioctl(bare->uffd, UFFDIO_COPY, &copy), 0);
        answered++;
    }
    return NULL;
}

// Faults per second of the shortest possible loop: what this machine lets any pager reach with single pages of a memfd.
static double bare_faults_per_second(void) {
    const int memfd = memfd_create("bare", MFD_CLOEXEC);
    CHECK_EQ(ftruncate(memfd, (off_t)(PAGES * PAGE)), 0);
    struct bare bare = {.memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0)};
    const int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    CHECK(device >= 0 && (bare.uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC)) >= 0);
    struct uffdio_api api = {.api = UFFD_API};
    CHECK_EQ(ioctl(bare.uffd, UFFDIO_API, &api), 0);
    struct uffdio_register range = {.range = {(uintptr_t)bare.memory, PAGES * PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    CHECK_EQ(ioctl(bare.uffd, UFFDIO_REGISTER, &range), 0);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, answer_bare, &bare), 0);
    const double start = now_ms();
    uint64_t sum = 0;
    for (uint64_t page = 0; page < PAGES; page++)
        sum += *(volatile unsigned char *)(bare.memory + page * PAGE);
    const double ms = now_ms() - start;
    CHECK_EQ(sum, PAGES);
    pthread_join(thread, NULL);
    munmap(bare.memory, PAGES * PAGE);
    close(memfd);
    close(device);
    close(bare.uffd);
    return PAGES * 1e3 / ms;
}

struct pager_run {
    double rate, p50_us, p99_us;
};

// Single pages in order, data everywhere.
static struct pager_run run_pager(void) {
    struct rig rig = start_rig(make_snapshot(3, PAGES, 1, PAGES), &(struct rig_options){.fault_around = "4096"});
    tell(&rig, VMM_ADDRESS, 0, 0, 0);
    while (rig.stats->state != TORPOR_PAGER_SERVING)
        sched_yield();
    const double start = now_ms();
    tell(&rig, VMM_READ, 0, rig.snapshot.size, 0);
    const double rate = (double)rig.stats->faults * 1e3 / (now_ms() - start);
    const struct pager_run run = {rate, latency_us(&rig, 0.5), latency_us(&rig, 0.99)};
    stop_rig(&rig);
    return run;
}

static int compare_numbers(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, compare_numbers);
    return values[count / 2];
}

static void rate_over_ceiling(void) {
    enum { RUNS = 5 };
    double ratios[RUNS], p50[RUNS], p99[RUNS];
    for (int i = 0; i < RUNS; i++) {
        const struct pager_run run = run_pager();
        ratios[i] = run.rate / bare_faults_per_second();
        p50[i] = run.p50_us;
        p99[i] = run.p99_us;
    }
    printf("pager_rate_over_ceiling: %.2f\npager_p50_us: %.1f\npager_p99_us: %.1f\n", median(ratios, RUNS), median(p50, RUNS),
           median(p99, RUNS));
}

// 20,000 written pages among 262,144.
static void scan_of_a_gibibyte(void) {
    const uint64_t pages = 262144;
    struct rig rig = start_rig(make_snapshot(4, pages, 1, pages), &(struct rig_options){.tracking = true, .fault_around = "2097152"});
    const uint64_t address = tell(&rig, VMM_ADDRESS, 0, 0, 0);
    tell(&rig, VMM_READ, 0, rig.snapshot.size, 0);
    for (uint64_t page = 0; page < 20000; page++)
        tell(&rig, VMM_WRITE, page * 13 * PAGE, PAGE, page & 0xff);
    uint8_t *bitmap = calloc(1, pages / 8);
    const double start = now_ms();
    CHECK_EQ(torpor_scan_dirty(rig.vmm, address, rig.snapshot.size, 0, -1, bitmap), 20000);
    printf("dirty_scan_ms_1024: %.2f\n", now_ms() - start);
    free(bitmap);
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
    int64_t pages = torpor_scan_dirty(rig.vmm, address, rig.snapshot.size, 0, -1, bitmap);
    printf("scan of 512 MiB, %ld written pages: %.2f ms\n", pages, now_ms() - start);
    start = now_ms();
    pages = torpor_scan_dirty(rig.vmm, address, rig.snapshot.size, 1, -1, bitmap);
    printf("the same with arming: %.2f ms\n", now_ms() - start);
    const struct snapshot *snapshot = &rig.snapshot;
    start = now_ms();
    pages = torpor_compare_dirty(rig.memfd, snapshot->size, snapshot->header, snapshot->header_length, snapshot->sources, 2, NULL, bitmap);
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

// With an argument: only the figures that `torpor bench snapshots` reports, as "name: value".
int main(int argc, char **argv) {
    (void)argv;
    scan_of_a_gibibyte();
    rate_over_ceiling();
    lookups();
    if (argc > 1)
        return 0;
    static const char *const arounds[] = {"4096", "65536", "2097152"};
    for (int i = 0; i < 3; i++) {
        stream(arounds[i], VMM_READ, false);
        stream(arounds[i], VMM_COPY_OUT, false);
    }
    stream("65536", VMM_READ, true);
    scan_and_compare();
    checksums();
}
