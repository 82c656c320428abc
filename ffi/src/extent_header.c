// Strict reader of the extent header: a file that breaks any rule is refused, nothing is guessed.
#include "extent_header.h"

#include "crc32c.h"
#include "kernel_compat.h"

#include <stdlib.h>
#include <string.h>

struct disk_header {
    char magic[8];
    uint32_t version;
    uint32_t kind;
    uint32_t page_size;
    uint32_t generation;
    uint64_t size_bytes;
    uint32_t source_count;
    uint32_t crc32c;
    uint64_t extent_count;
    unsigned char reserved[16];
};
_Static_assert(sizeof(struct disk_header) == 64, "the fixed part has 64 bytes on disk");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is little endian and is read in place");

#define RECORD_BYTES 32ull
#define MAX_SIZE_BYTES (1ull << 44)
#define MAX_SOURCES 65535u
#define MAX_SOURCE_OFFSET (1ull << 52)

static const char *const rule_names[] = {
    [TORPOR_HEADER_OK] = "ok",
    [TORPOR_HEADER_TOO_SHORT] = "too_short",
    [TORPOR_HEADER_MAGIC] = "magic",
    [TORPOR_HEADER_VERSION] = "version",
    [TORPOR_HEADER_KIND] = "kind",
    [TORPOR_HEADER_PAGE_SIZE] = "page_size",
    [TORPOR_HEADER_GENERATION] = "generation",
    [TORPOR_HEADER_SIZE_BYTES] = "size_bytes",
    [TORPOR_HEADER_SOURCE_COUNT] = "source_count",
    [TORPOR_HEADER_EXTENT_COUNT] = "extent_count",
    [TORPOR_HEADER_RESERVED] = "reserved",
    [TORPOR_HEADER_FILE_SIZE] = "file_size",
    [TORPOR_HEADER_CRC32C] = "crc32c",
    [TORPOR_HEADER_SOURCE_ID] = "source_id",
    [TORPOR_HEADER_SOURCE_DUPLICATE] = "source_duplicate",
    [TORPOR_HEADER_EXTENT_ALIGNMENT] = "extent_alignment",
    [TORPOR_HEADER_EXTENT_LENGTH] = "extent_length",
    [TORPOR_HEADER_EXTENT_RESERVED] = "extent_reserved",
    [TORPOR_HEADER_EXTENT_SOURCE] = "extent_source",
    [TORPOR_HEADER_EXTENT_SOURCE_OFFSET] = "extent_source_offset",
    [TORPOR_HEADER_COVERAGE] = "coverage",
    [TORPOR_HEADER_NOT_MERGED] = "not_merged",
    [TORPOR_HEADER_OUT_OF_MEMORY] = "out_of_memory",
};

const char *torpor_header_rule_name(enum torpor_header_rule rule) {
    return (size_t)rule < sizeof rule_names / sizeof *rule_names ? rule_names[rule] : "unknown";
}

static int all_zero(const unsigned char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (bytes[i])
            return 0;
    return 1;
}

static enum torpor_header_rule check_fixed(const struct disk_header *fixed) {
    if (memcmp(fixed->magic, "TORPOREX", sizeof fixed->magic))
        return TORPOR_HEADER_MAGIC;
    if (fixed->version != 1)
        return TORPOR_HEADER_VERSION;
    if (fixed->kind != 1 && fixed->kind != 2)
        return TORPOR_HEADER_KIND;
    if (fixed->page_size != TORPOR_PAGE_SIZE)
        return TORPOR_HEADER_PAGE_SIZE;
    if (fixed->generation < 1)
        return TORPOR_HEADER_GENERATION;
    if (!fixed->size_bytes || fixed->size_bytes % TORPOR_PAGE_SIZE || fixed->size_bytes > MAX_SIZE_BYTES)
        return TORPOR_HEADER_SIZE_BYTES;
    if (fixed->source_count > MAX_SOURCES)
        return TORPOR_HEADER_SOURCE_COUNT;
    if (fixed->extent_count < 1 || fixed->extent_count > fixed->size_bytes / TORPOR_PAGE_SIZE)
        return TORPOR_HEADER_EXTENT_COUNT;
    if (!all_zero(fixed->reserved, sizeof fixed->reserved))
        return TORPOR_HEADER_RESERVED;
    return TORPOR_HEADER_OK;
}

static uint32_t file_checksum(const unsigned char *bytes, size_t length) {
    static const unsigned char zero[4];
    const size_t at = offsetof(struct disk_header, crc32c);
    uint32_t state = torpor_crc32c(0, bytes, at);
    state = torpor_crc32c(state, zero, sizeof zero);
    return torpor_crc32c(state, bytes + at + sizeof zero, length - at - sizeof zero);
}

static int compare_sources(const void *left, const void *right) {
    return memcmp(*(const unsigned char *const *)left, *(const unsigned char *const *)right, TORPOR_SOURCE_ID_BYTES);
}

static enum torpor_header_rule check_sources(const unsigned char (*sources)[32], uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        for (int k = 0; k < TORPOR_SOURCE_ID_BYTES; k++) {
            const unsigned char c = sources[i][k];
            if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9'))
                return TORPOR_HEADER_SOURCE_ID;
        }
        if (!all_zero(sources[i] + TORPOR_SOURCE_ID_BYTES, sizeof sources[i] - TORPOR_SOURCE_ID_BYTES))
            return TORPOR_HEADER_SOURCE_ID;
    }
    if (count < 2)
        return TORPOR_HEADER_OK;
    const unsigned char **sorted = malloc(count * sizeof *sorted);
    if (!sorted)
        return TORPOR_HEADER_OUT_OF_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = sources[i];
    qsort(sorted, count, sizeof *sorted, compare_sources);
    int duplicate = 0;
    for (uint32_t i = 1; i < count; i++)
        duplicate |= compare_sources(&sorted[i - 1], &sorted[i]) == 0;
    free(sorted);
    return duplicate ? TORPOR_HEADER_SOURCE_DUPLICATE : TORPOR_HEADER_OK;
}

static enum torpor_header_rule check_extent(const struct torpor_extent *extent, uint32_t source_count) {
    if (extent->offset % TORPOR_PAGE_SIZE)
        return TORPOR_HEADER_EXTENT_ALIGNMENT;
    if (!extent->length || extent->length % TORPOR_PAGE_SIZE)
        return TORPOR_HEADER_EXTENT_LENGTH;
    if (extent->reserved)
        return TORPOR_HEADER_EXTENT_RESERVED;
    if (extent->source == TORPOR_SOURCE_ZERO)
        return extent->source_offset ? TORPOR_HEADER_EXTENT_SOURCE_OFFSET : TORPOR_HEADER_OK;
    if (extent->source >= source_count)
        return TORPOR_HEADER_EXTENT_SOURCE;
    if (extent->source_offset % TORPOR_PAGE_SIZE || extent->source_offset > MAX_SOURCE_OFFSET)
        return TORPOR_HEADER_EXTENT_SOURCE_OFFSET;
    return TORPOR_HEADER_OK;
}

static int should_be_merged(const struct torpor_extent *left, const struct torpor_extent *right) {
    if (left->source != right->source)
        return 0;
    return left->source == TORPOR_SOURCE_ZERO || left->source_offset + left->length == right->source_offset;
}

static enum torpor_header_rule check_extents(const struct torpor_extent_header *header) {
    uint64_t next = 0;
    for (uint64_t i = 0; i < header->extent_count; i++) {
        const struct torpor_extent *extent = &header->extents[i];
        const enum torpor_header_rule rule = check_extent(extent, header->source_count);
        if (rule != TORPOR_HEADER_OK)
            return rule;
        if (extent->offset != next || extent->length > header->size_bytes - next)
            return TORPOR_HEADER_COVERAGE;
        if (i && should_be_merged(extent - 1, extent))
            return TORPOR_HEADER_NOT_MERGED;
        next += extent->length;
    }
    return next == header->size_bytes ? TORPOR_HEADER_OK : TORPOR_HEADER_COVERAGE;
}

enum torpor_header_rule torpor_extent_header_parse(const void *bytes, size_t length, struct torpor_extent_header *header) {
    if (length < sizeof(struct disk_header))
        return TORPOR_HEADER_TOO_SHORT;
    const struct disk_header *fixed = bytes;
    enum torpor_header_rule rule = check_fixed(fixed);
    if (rule != TORPOR_HEADER_OK)
        return rule;
    if (length != sizeof *fixed + RECORD_BYTES * (fixed->source_count + fixed->extent_count))
        return TORPOR_HEADER_FILE_SIZE;
    if (fixed->crc32c != file_checksum(bytes, length))
        return TORPOR_HEADER_CRC32C;
    const unsigned char *records = (const unsigned char *)bytes + sizeof *fixed;
    *header = (struct torpor_extent_header){
        .kind = fixed->kind,
        .generation = fixed->generation,
        .size_bytes = fixed->size_bytes,
        .source_count = fixed->source_count,
        .extent_count = fixed->extent_count,
        .sources = (const unsigned char(*)[32])records,
        .extents = (const struct torpor_extent *)(records + RECORD_BYTES * fixed->source_count),
    };
    rule = check_sources(header->sources, header->source_count);
    return rule == TORPOR_HEADER_OK ? check_extents(header) : rule;
}

static int covers(const struct torpor_extent *extent, uint64_t offset) {
    return offset >= extent->offset && offset - extent->offset < extent->length;
}

uint64_t torpor_extent_find(const struct torpor_extent_header *header, uint64_t offset, uint64_t hint) {
    if (hint < header->extent_count && covers(&header->extents[hint], offset))
        return hint;
    if (hint + 1 < header->extent_count && covers(&header->extents[hint + 1], offset))
        return hint + 1;
    uint64_t low = 0, high = header->extent_count;
    while (high - low > 1) {
        const uint64_t middle = low + (high - low) / 2;
        if (header->extents[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}
