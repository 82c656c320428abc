// Pages written since they were armed, from the page tables of the VMM (PAGEMAP_SCAN, Linux 6.7).
#include "torpor.h"

#include "export.h"
#include "kernel_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REGIONS 8192

static int64_t mark(uint8_t *bitmap, uint64_t first, uint64_t end) {
    int64_t added = 0;
    for (uint64_t page = first; page < end; page++) {
        const uint8_t bit = (uint8_t)(1u << (page % 8));
        added += !(bitmap[page / 8] & bit);
        bitmap[page / 8] |= bit;
    }
    return added;
}

struct scan {
    int pagemap;
    uint64_t address;
    uint64_t size;
    int protect;
    int memfd; // or -1: pages that are not mapped count only when they are no holes of it
    uint8_t *bitmap;
};

static int64_t mark_region(const struct scan *scan, const struct page_region *region) {
    const uint64_t first = (region->start - scan->address) / TORPOR_PAGE_SIZE, end = (region->end - scan->address) / TORPOR_PAGE_SIZE;
    if (scan->memfd < 0 || region->categories & PAGE_IS_PRESENT)
        return mark(scan->bitmap, first, end);
    int64_t added = 0;
    for (uint64_t page = first; page < end; page++) {
        const off_t offset = (off_t)(page * TORPOR_PAGE_SIZE), data = lseek(scan->memfd, offset, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? added : -errno;
        if (data == offset)
            added += mark(scan->bitmap, page, page + 1);
        else
            page = (uint64_t)data / TORPOR_PAGE_SIZE - 1;
    }
    return added;
}

// The kernel may report a range twice when `regions` was full (walk_end lags behind), so pages are counted as bits are set.
static int64_t run_scan(const struct scan *scan, struct page_region *regions) {
    const uint64_t end = scan->address + scan->size;
    int64_t pages = 0;
    for (uint64_t at = scan->address; at < end;) {
        struct pm_scan_arg request = {.size = sizeof request,
                                      // CHECK_WPASYNC makes a range that is not tracked an error (EPERM) instead of "everything".
                                      .flags = PM_SCAN_CHECK_WPASYNC | (scan->protect ? PM_SCAN_WP_MATCHING : 0),
                                      .start = at,
                                      .end = end,
                                      .vec = (uintptr_t)regions,
                                      .vec_len = REGIONS,
                                      .category_mask = PAGE_IS_WRITTEN,
                                      .return_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT};
        const int count = ioctl(scan->pagemap, PAGEMAP_SCAN, &request);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        for (int i = 0; i < count; i++) {
            const int64_t added = mark_region(scan, &regions[i]);
            if (added < 0)
                return added;
            pages += added;
        }
        if (request.walk_end <= at)
            return -EIO;
        at = request.walk_end;
    }
    return pages;
}

TORPOR_EXPORT int64_t torpor_scan_dirty(int pid, uint64_t address, uint64_t size, int protect, int memfd, uint8_t *bitmap) {
    uint64_t end;
    // Nothing is mapped at 0, and of what is not mapped the kernel tells nothing, without an error.
    if (!address || address % TORPOR_PAGE_SIZE || !size || size % TORPOR_PAGE_SIZE || __builtin_add_overflow(address, size, &end))
        return -EINVAL;
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    const int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return -errno;
    const struct scan scan = {pagemap, address, size, protect, memfd, bitmap};
    struct page_region *regions = malloc(REGIONS * sizeof *regions);
    const int64_t pages = regions ? run_scan(&scan, regions) : -ENOMEM;
    free(regions);
    close(pagemap);
    return pages;
}

// --- the self test: a small tracked mapping of our own, of which one page is written ---

#define TEST_PAGES 16u
#define TEST_BYTES (TEST_PAGES * TORPOR_PAGE_SIZE)

static int tracked_userfaultfd(void) {
    const int device = torpor_open_userfaultfd_device();
    const int uffd = device < 0 ? (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)
                                : ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    const int error = errno;
    if (device >= 0)
        close(device);
    return uffd < 0 ? -error : uffd;
}

// Registers and arms as the shim does, loads half of the pages, writes one. Returns 1 when the scan reports exactly that one.
static int track_one_write(int uffd, unsigned char *memory) {
    static const unsigned char content[TEST_BYTES / 2] __attribute__((aligned(4096)));
    const struct uffdio_range range = {(uintptr_t)memory, TEST_BYTES};
    struct uffdio_api api = {.api = UFFD_API, .features = TORPOR_UFFD_FEATURES | TORPOR_UFFD_TRACKING_FEATURES};
    struct uffdio_register registration = {.range = range, .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP};
    struct uffdio_writeprotect protection = {.range = range, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    struct uffdio_copy copy = {.dst = (uintptr_t)memory,
                               .src = (uintptr_t)content,
                               .len = sizeof content,
                               .mode = UFFDIO_COPY_MODE_WP};
    if (ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &registration) ||
        ioctl(uffd, UFFDIO_WRITEPROTECT, &protection) || ioctl(uffd, UFFDIO_COPY, &copy))
        return 0;
    const unsigned char read_only = *(volatile unsigned char *)memory;
    *(volatile unsigned char *)(memory + 3 * TORPOR_PAGE_SIZE) = (unsigned char)(read_only + 1);
    uint8_t bitmap[TEST_PAGES / 8] = {0};
    return torpor_scan_dirty(getpid(), (uintptr_t)memory, TEST_BYTES, 0, -1, bitmap) == 1 && bitmap[0] == 1u << 3;
}

TORPOR_EXPORT int torpor_pagemap_scan_supported(void) {
    const int uffd = tracked_userfaultfd();
    if (uffd < 0)
        return uffd;
    const int memfd = torpor_memfd_create("torpor-selftest", TEST_BYTES);
    int result = memfd < 0 ? memfd : 0;
    unsigned char *memory = memfd < 0 ? MAP_FAILED : mmap(NULL, TEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    if (memory != MAP_FAILED) {
        result = track_one_write(uffd, memory);
        munmap(memory, TEST_BYTES);
    } else if (!result) {
        result = -errno;
    }
    if (memfd >= 0)
        close(memfd);
    close(uffd);
    return result;
}
