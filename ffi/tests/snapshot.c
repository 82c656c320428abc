#include "snapshot.h"

#include "crc32c.h"
#include "test.h"
#include "torpor.h"

#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ull

void fix_checksum(unsigned char *header, uint64_t length) {
    memset(header + 36, 0, 4);
    const uint32_t checksum = torpor_crc32c_portable(0, header, length);
    memcpy(header + 36, &checksum, 4);
}

unsigned char *make_header(uint64_t size, uint32_t source_count, const struct torpor_extent *extents, uint64_t extent_count,
                           uint64_t *length) {
    *length = 64 + 32 * (source_count + extent_count);
    unsigned char *header = calloc(1, *length);
    const uint32_t fields[] = {1, 1, 4096, 1};
    memcpy(header, "TORPOREX", 8);
    memcpy(header + 8, fields, sizeof fields);
    memcpy(header + 24, &size, 8);
    memcpy(header + 32, &source_count, 4);
    memcpy(header + 40, &extent_count, 8);
    for (uint32_t k = 0; k < source_count; k++) {
        char id[32] = {0};
        snprintf(id, sizeof id, "source%014u", k);
        memcpy(header + 64 + 32 * k, id, 32);
    }
    memcpy(header + 64 + 32 * source_count, extents, 32 * extent_count);
    fix_checksum(header, *length);
    return header;
}

static int mergeable(const struct torpor_extent *left, const struct torpor_extent *right) {
    return left->source == right->source &&
           (left->source == TORPOR_SOURCE_ZERO || left->source_offset + left->length == right->source_offset);
}

static void write_all(int fd, const void *bytes, uint64_t length, uint64_t offset) {
    CHECK_EQ(torpor_pwrite(fd, bytes, length, offset), length);
}

struct snapshot make_snapshot(uint64_t seed, uint64_t pages, uint32_t source_count, uint64_t longest) {
    struct snapshot snapshot = {.size = pages * PAGE, .source_count = source_count};
    snapshot.expected = calloc(1, snapshot.size);
    struct torpor_extent *extents = calloc(pages, sizeof *extents);
    uint64_t ends[MAX_TEST_SOURCES] = {0}, count = 0;
    CHECK(source_count <= MAX_TEST_SOURCES);
    for (uint32_t k = 0; k < source_count; k++)
        CHECK((snapshot.sources[k] = memfd_create("source", MFD_CLOEXEC)) >= 0);
    for (uint64_t offset = 0; offset < snapshot.size;) {
        uint64_t length = (1 + next_random(&seed) % longest) * PAGE;
        if (length > snapshot.size - offset)
            length = snapshot.size - offset;
        struct torpor_extent extent = {offset, length, 0, TORPOR_SOURCE_ZERO, 0};
        const uint32_t choice = (uint32_t)(next_random(&seed) % (source_count + 1));
        if (choice < source_count) {
            extent.source = choice;
            extent.source_offset = ends[choice];
            fill_random(&seed, snapshot.expected + offset, length);
            write_all(snapshot.sources[choice], snapshot.expected + offset, length, extent.source_offset);
            ends[choice] += length;
        }
        offset += length;
        if (count && mergeable(&extents[count - 1], &extent))
            extents[count - 1].length += length;
        else
            extents[count++] = extent;
    }
    snapshot.header = make_header(snapshot.size, source_count, extents, count, &snapshot.header_length);
    free(extents);
    CHECK((snapshot.header_fd = memfd_create("header", MFD_CLOEXEC)) >= 0);
    write_all(snapshot.header_fd, snapshot.header, snapshot.header_length, 0);
    return snapshot;
}

void free_snapshot(struct snapshot *snapshot) {
    for (uint32_t k = 0; k < snapshot->source_count; k++)
        close(snapshot->sources[k]);
    close(snapshot->header_fd);
    free(snapshot->expected);
    free(snapshot->header);
}
