// Tries on memory of our own what a shared base needs: kernels differ, and containers may forbid it.
#include "base_pager.h"
#include "kernel_compat.h"
#include "torpor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGES 8u
#define BYTES (PAGES * TORPOR_PAGE_SIZE)
#define TIMEOUT_MS 5000
enum { READ_PAGE = 1, WRITTEN_PAGE = 2, DISCARDED_PAGE = 5, UNTOUCHED_PAGE = 6 };

struct trial {
    struct torpor_base base;
    struct torpor_extent extent;
    int source;
    int uffd;
    unsigned char *memory; // the sibling's
    unsigned char seen;    // what the thread read
};

static unsigned char content_of(unsigned page) {
    return (unsigned char)(0x50 + page);
}

static bool make_source(struct trial *trial) {
    unsigned char *content = calloc(1, BYTES);
    trial->source = torpor_memfd_create("torpor-selftest-source", BYTES);
    for (unsigned page = 0; content && page < PAGES; page++)
        memset(content + page * TORPOR_PAGE_SIZE, content_of(page), TORPOR_PAGE_SIZE);
    const bool written = content && trial->source >= 0 && torpor_pwrite(trial->source, content, BYTES, 0) == (int64_t)BYTES;
    free(content);
    return written;
}

static const char *open_base(struct trial *trial, int userfaultfd_device) {
    struct torpor_pager *reader = &trial->base.reader;
    trial->base.base_fd = torpor_memfd_create("torpor-selftest-base", BYTES);
    if (!make_source(trial) || trial->base.base_fd < 0)
        return "memory for the self test";
    trial->extent = (struct torpor_extent){.length = BYTES};
    reader->header = (struct torpor_extent_header){.size_bytes = BYTES, .source_count = 1, .extent_count = 1, .extents = &trial->extent};
    reader->sources = &trial->source;
    reader->fault_around_bytes = BYTES;
    reader->buffer = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    reader->stats = calloc(1, sizeof *reader->stats);
    trial->base.filled = calloc(1, sizeof *trial->base.filled);
    if (reader->buffer == MAP_FAILED || !reader->stats || !trial->base.filled)
        return "memory for the self test";
    trial->base.userfaultfd_device = userfaultfd_device;
    return torpor_base_open(&trial->base) || torpor_base_register(&trial->base) ? reader->failure : NULL;
}

static const char *map_sibling(struct trial *trial, int userfaultfd_device) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", trial->base.base_fd);
    const int readable = open(path, O_RDONLY | O_CLOEXEC);
    if (readable < 0)
        return "opening the base again for reading";
    trial->memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, readable, 0);
    close(readable);
    trial->uffd = ioctl(userfaultfd_device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM};
    struct uffdio_register registration = {.range = {(uintptr_t)trial->memory, BYTES}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (trial->memory == MAP_FAILED || trial->uffd < 0 || ioctl(trial->uffd, UFFDIO_API, &api) ||
        ioctl(trial->uffd, UFFDIO_REGISTER, &registration))
        return "userfaultfd on a private mapping of a memory file";
    return NULL;
}

static void *touch(void *argument) {
    struct trial *trial = argument;
    trial->seen = *(volatile unsigned char *)(trial->memory + READ_PAGE * TORPOR_PAGE_SIZE);
    return NULL;
}

static const char *answer_fault(struct trial *trial) {
    struct pollfd ready = {.fd = trial->uffd, .events = POLLIN};
    struct uffd_msg event;
    uint64_t pages;
    if (poll(&ready, 1, TIMEOUT_MS) != 1 || read(trial->uffd, &event, sizeof event) != (ssize_t)sizeof event ||
        event.event != UFFD_EVENT_PAGEFAULT)
        return "a hole of the base raises no fault";
    if (torpor_base_fill(&trial->base, READ_PAGE * TORPOR_PAGE_SIZE, &pages))
        return trial->base.reader.failure;
    struct uffdio_range range = {event.arg.pagefault.address & ~(TORPOR_PAGE_SIZE - 1), TORPOR_PAGE_SIZE};
    return ioctl(trial->uffd, UFFDIO_WAKE, &range) ? "UFFDIO_WAKE" : NULL;
}

static const char *fault_once(struct trial *trial) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, touch, trial))
        return "a thread for the self test";
    const char *missing = answer_fault(trial);
    if (missing)
        return missing; // the thread waits for ever; the process ends
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += TIMEOUT_MS / 1000;
    if (pthread_timedjoin_np(thread, NULL, &limit))
        return "a filled page wakes nobody";
    return trial->seen == content_of(READ_PAGE) ? NULL : "a filled page has other bytes";
}

// All pages are in the base now, so what follows raises no fault.
static const char *check_privacy(struct trial *trial) {
    unsigned char *written = trial->memory + WRITTEN_PAGE * TORPOR_PAGE_SIZE;
    unsigned char *discarded = trial->memory + DISCARDED_PAGE * TORPOR_PAGE_SIZE;
    *(volatile unsigned char *)written = 1;
    if (trial->base.memory[WRITTEN_PAGE * TORPOR_PAGE_SIZE] != content_of(WRITTEN_PAGE))
        return "a sibling's write reaches the base";
    struct uffdio_zeropage zero = {.range = {(uintptr_t)discarded, TORPOR_PAGE_SIZE}};
    // The kernel has mapped it together with the page that faulted.
    if (madvise(discarded, TORPOR_PAGE_SIZE, MADV_DONTNEED) || ioctl(trial->uffd, UFFDIO_ZEROPAGE, &zero) || *(volatile unsigned char *)discarded)
        return "UFFDIO_ZEROPAGE on a private mapping of a memory file";
    uint8_t own = 0, zeros = 0;
    if (torpor_private_pages(getpid(), (uintptr_t)trial->memory, BYTES, TORPOR_PRIVATE_BY_ANY, &own, &zeros))
        return "/proc/pid/pagemap";
    return (own | zeros) == ((1u << WRITTEN_PAGE) | (1u << DISCARDED_PAGE)) && !(own & zeros) && own & (1u << WRITTEN_PAGE)
               ? NULL
               : "the page table does not tell own pages from shared ones";
}

static const char *check_seals(struct trial *trial) {
    if (torpor_pwrite(trial->base.base_fd, "x", 1, UNTOUCHED_PAGE * TORPOR_PAGE_SIZE) != -EPERM)
        return "a sealed base can be written";
    void *again = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, trial->base.base_fd, 0);
    return again == MAP_FAILED ? NULL : "a sealed base can be mapped writable";
}

const char *torpor_base_selftest(int userfaultfd_device) {
    static struct trial trial;
    const char *missing = open_base(&trial, userfaultfd_device);
    if (!missing)
        missing = map_sibling(&trial, userfaultfd_device);
    if (!missing)
        missing = fault_once(&trial);
    if (!missing)
        missing = check_privacy(&trial);
    return missing ? missing : check_seals(&trial);
}
