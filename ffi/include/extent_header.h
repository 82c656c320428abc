// Reader of the extent header (docs/formats/extent-header.md): where each byte of a guest's memory is found.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define TORPOR_SOURCE_ZERO 0xffffffffu
#define TORPOR_SOURCE_ID_BYTES 20

struct torpor_extent {
    uint64_t offset;
    uint64_t length;
    uint64_t source_offset;
    uint32_t source;
    uint32_t reserved;
};
_Static_assert(sizeof(struct torpor_extent) == 32, "an extent has 32 bytes on disk");

struct torpor_extent_header {
    uint32_t kind;
    uint32_t generation;
    uint64_t size_bytes;
    uint32_t source_count;
    uint64_t extent_count;
    const unsigned char (*sources)[32];
    const struct torpor_extent *extents;
};

// One value per rule of the format, in the order in which they are checked.
enum torpor_header_rule {
    TORPOR_HEADER_OK,
    TORPOR_HEADER_TOO_SHORT,
    TORPOR_HEADER_MAGIC,
    TORPOR_HEADER_VERSION,
    TORPOR_HEADER_KIND,
    TORPOR_HEADER_PAGE_SIZE,
    TORPOR_HEADER_GENERATION,
    TORPOR_HEADER_SIZE_BYTES,
    TORPOR_HEADER_SOURCE_COUNT,
    TORPOR_HEADER_EXTENT_COUNT,
    TORPOR_HEADER_RESERVED,
    TORPOR_HEADER_FILE_SIZE,
    TORPOR_HEADER_CRC32C,
    TORPOR_HEADER_SOURCE_ID,
    TORPOR_HEADER_SOURCE_DUPLICATE,
    TORPOR_HEADER_EXTENT_ALIGNMENT,
    TORPOR_HEADER_EXTENT_LENGTH,
    TORPOR_HEADER_EXTENT_RESERVED,
    TORPOR_HEADER_EXTENT_SOURCE,
    TORPOR_HEADER_EXTENT_SOURCE_OFFSET,
    TORPOR_HEADER_COVERAGE,
    TORPOR_HEADER_NOT_MERGED,
    TORPOR_HEADER_OUT_OF_MEMORY,
};

// Validates every rule of the format and fills `header`, whose pointers refer into `bytes` (8-byte aligned, kept by the caller).
// Returns TORPOR_HEADER_OK or the first broken rule; `header` is then not to be used.
enum torpor_header_rule torpor_extent_header_parse(const void *bytes, size_t length, struct torpor_extent_header *header);

// The rule's name as the documentation and the TypeScript reader spell it.
const char *torpor_header_rule_name(enum torpor_header_rule rule);

// Index of the extent that covers `offset` (< size_bytes). `hint` is any index; sequential callers pass the last answer.
uint64_t torpor_extent_find(const struct torpor_extent_header *header, uint64_t offset, uint64_t hint);
