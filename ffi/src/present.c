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
