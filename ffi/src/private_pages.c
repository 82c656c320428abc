// Pages of a private mapping of a memory file that are the process's own: written since, or given to it alone. They are the dirty set
// of a sibling (docs/decisions/0008-shared-base.md): the page table itself remembers, nothing is armed and nothing is lost.
#include "torpor.h"

#include "export.h"
#include "kernel_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REGIONS 8192
#define ENTRIES 65536
#define ENTRY_FILE (1ull << 61) // bits of /proc/pid/pagemap (kernel: Documentation/admin-guide/mm/pagemap.rst)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_PRESENT (1ull << 63)

static void mark(uint8_t *bitmap, uint64_t first, uint64_t end) {
    for (uint64_t page = first; page < end; page++)
        bitmap[page / 8] |= (uint8_t)(1u << (page % 8));
}

// PAGEMAP_SCAN, Linux 6.7. The kernel may report a range twice (walk_end lags behind), hence bitmaps.
static int scan_regions(int pagemap, uint64_t address, uint64_t size, uint8_t *own, uint8_t *zero, struct page_region *regions) {
    const uint64_t end = address + size;
    for (uint64_t at = address; at < end;) {
        struct pm_scan_arg request = {.size = sizeof request,
                                      .start = at,
                                      .end = end,
                                      .vec = (uintptr_t)regions,
                                      .vec_len = REGIONS,
                                      .category_inverted = PAGE_IS_FILE,
                                      .category_mask = PAGE_IS_FILE,
                                      .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                                      .return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO};
        const int count = ioctl(pagemap, PAGEMAP_SCAN, &request);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        for (int i = 0; i < count; i++)
            mark(regions[i].categories & PAGE_IS_PFNZERO ? zero : own, (regions[i].start - address) / TORPOR_PAGE_SIZE,
                 (regions[i].end - address) / TORPOR_PAGE_SIZE);
        if (request.walk_end <= at)
            return -EIO;
        at = request.walk_end;
    }
    return 0;
}

// Any kernel. It does not tell the page of zeros from others: such a page counts as the process's own.
static int scan_entries(int pagemap, uint64_t address, uint64_t size, uint8_t *own, uint64_t *entries) {
    const uint64_t pages = size / TORPOR_PAGE_SIZE;
    for (uint64_t page = 0; page < pages;) {
        const uint64_t wanted = pages - page < ENTRIES ? pages - page : ENTRIES;
        const int64_t got =
            torpor_pread(pagemap, entries, wanted * sizeof *entries, (address / TORPOR_PAGE_SIZE + page) * sizeof *entries);
        if (got < 0)
            return (int)got;
        if ((uint64_t)got != wanted * sizeof *entries)
            return -ENODATA;
        for (uint64_t i = 0; i < wanted; i++)
            if (entries[i] & (ENTRY_PRESENT | ENTRY_SWAPPED) && !(entries[i] & ENTRY_FILE))
                mark(own, page + i, page + i + 1);
        page += wanted;
    }
    return 0;
}

TORPOR_EXPORT int torpor_private_pages(int pid, uint64_t address, uint64_t size, int method, uint8_t *own, uint8_t *zero) {
    uint64_t end;
    if (!address || address % TORPOR_PAGE_SIZE || !size || size % TORPOR_PAGE_SIZE || __builtin_add_overflow(address, size, &end))
        return -EINVAL;
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    const int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return -errno;
    void *memory = malloc(ENTRIES * sizeof(uint64_t) > REGIONS * sizeof(struct page_region) ? ENTRIES * sizeof(uint64_t)
                                                                                           : REGIONS * sizeof(struct page_region));
    int error = memory ? 0 : -ENOMEM;
    if (!error && method != TORPOR_PRIVATE_BY_ENTRIES)
        error = scan_regions(pagemap, address, size, own, zero, memory);
    if (memory && (method == TORPOR_PRIVATE_BY_ENTRIES || (method == TORPOR_PRIVATE_BY_ANY && error == -ENOTTY)))
        error = scan_entries(pagemap, address, size, own, memory);
    free(memory);
    close(pagemap);
    return error;
}
