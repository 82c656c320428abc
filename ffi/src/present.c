// Pages that take memory in a memfd: everything that was ever loaded or written and not given back, swapped out or not.
#include "torpor.h"

#include "export.h"
#include "kernel_compat.h"
#include "memory_extent.h"

#include <errno.h>

TORPOR_EXPORT int64_t torpor_present_pages(int memfd, uint64_t size, uint8_t *bitmap) {
    if (!size || size % TORPOR_PAGE_SIZE)
        return -EINVAL;
    struct data_walk walk = {.fd = memfd, .size = size};
    int64_t pages = 0;
    for (uint64_t offset = 0; offset < size; offset = walk.end) {
        const int error = data_walk_to(&walk, offset);
        if (error)
            return error;
        for (uint64_t page = walk.start / TORPOR_PAGE_SIZE; page < walk.end / TORPOR_PAGE_SIZE; page++, pages++)
            bitmap[page / 8] |= (uint8_t)(1u << (page % 8));
    }
    return pages;
}

TORPOR_EXPORT int64_t torpor_keep_present(int memfd, uint64_t size, uint8_t *bitmap) {
    if (!size || size % TORPOR_PAGE_SIZE)
        return -EINVAL;
    const uint64_t pages = size / TORPOR_PAGE_SIZE;
    int64_t kept = 0;
    for (uint64_t page = 0; page < pages; page++) {
        if (page % 8 == 0 && !bitmap[page / 8]) {
            page += 7;
            continue;
        }
        const uint8_t bit = (uint8_t)(1u << page % 8);
        if (!(bitmap[page / 8] & bit))
            continue;
        // One look per page: the end of a long data extent, which data_walk_to would ask for, takes longer to find.
        const off_t offset = (off_t)(page * TORPOR_PAGE_SIZE), data = lseek(memfd, offset, SEEK_DATA);
        if (data < 0 && errno != ENXIO)
            return -errno;
        if (data == offset)
            kept++;
        else
            bitmap[page / 8] &= (uint8_t)~bit;
    }
    return kept;
}
