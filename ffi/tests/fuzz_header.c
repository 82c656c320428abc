// libFuzzer entry for the extent header reader. The checksum is made right, or nothing behind it would ever be reached.
#include "crc32c.h"
#include "extent_header.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned char *bytes = malloc(size ? size : 1);
    memcpy(bytes, data, size);
    if (size >= 12)
        memcpy(bytes, "TORPOREX\1\0\0\0", 12);
    if (size >= 64) {
        memset(bytes + 36, 0, 4);
        const uint32_t checksum = torpor_crc32c(0, bytes, size);
        memcpy(bytes + 36, &checksum, 4);
    }
    struct torpor_extent_header header;
    if (torpor_extent_header_parse(bytes, size, &header) == TORPOR_HEADER_OK) {
        uint64_t next = 0;
        for (uint64_t i = 0; i < header.extent_count; i++) {
            if (torpor_extent_find(&header, next, i ^ 1) != i)
                abort();
            next += header.extents[i].length;
        }
        if (next != header.size_bytes)
            abort();
    }
    free(bytes);
    return 0;
}
