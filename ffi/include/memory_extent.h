// Walking over the data and the holes of a sparse file in ascending order.
#pragma once

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

// The data extent at or after the last offset asked for. Initialise with {.fd, .size}.
// Moves the file offset of `fd`, which nothing here relies on.
struct data_walk {
    int fd;
    uint64_t size;
    uint64_t start;
    uint64_t end;
};

// Moves to the data extent that contains or follows `offset`; start == size when there is none. Offsets must not decrease.
static inline int data_walk_to(struct data_walk *walk, uint64_t offset) {
    if (offset < walk->end)
        return 0;
    const off_t start = lseek(walk->fd, (off_t)offset, SEEK_DATA);
    if (start < 0 && errno != ENXIO)
        return -errno;
    const off_t end = start < 0 ? (off_t)walk->size : lseek(walk->fd, start, SEEK_HOLE);
    if (end < 0)
        return -errno;
    walk->start = start < 0 || (uint64_t)start > walk->size ? walk->size : (uint64_t)start;
    walk->end = (uint64_t)end > walk->size ? walk->size : (uint64_t)end;
    return 0;
}
