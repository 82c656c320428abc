// Reading through an extent table.
#include "extent_read.h"

#include "torpor.h"

#include <errno.h>
#include <string.h>

int torpor_read_exactly(int fd, unsigned char *into, uint64_t length, uint64_t offset) {
    const int64_t got = torpor_pread(fd, into, length, offset);
    return got < 0 ? (int)got : (uint64_t)got == length ? 0 : -ENODATA;
}

int torpor_extent_read(const struct torpor_extent_header *header, const int *sources, uint64_t *hint, unsigned char *into,
                       uint64_t length, uint64_t offset) {
    while (length) {
        *hint = torpor_extent_find(header, offset, *hint);
        const struct torpor_extent *extent = &header->extents[*hint];
        const uint64_t inside = offset - extent->offset;
        const uint64_t part = length < extent->length - inside ? length : extent->length - inside;
        int error = 0;
        if (extent->source == TORPOR_SOURCE_ZERO)
            memset(into, 0, part);
        else
            error = torpor_read_exactly(sources[extent->source], into, part, extent->source_offset + inside);
        if (error)
            return error;
        into += part;
        offset += part;
        length -= part;
    }
    return 0;
}
