// Strict reader of the working set, and its pages in address order: neighbours are then read and installed together.
#include "working_set.h"

#include "crc32c.h"
#include "kernel_compat.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct disk_header {
    char magic[8];
    uint32_t version;
    uint32_t page_size;
    uint64_t memory_bytes;
    uint32_t count;
    uint32_t crc32c; // of the page numbers
};
_Static_assert(sizeof(struct disk_header) == 32, "the fixed part has 32 bytes on disk");

static int compare_pages(const void *left, const void *right) {
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static int header_is_valid(const struct disk_header *header, uint64_t memory_bytes, uint64_t file_bytes) {
    return !memcmp(header->magic, "TORPORWS", sizeof header->magic) && header->version == 1 &&
           header->page_size == TORPOR_PAGE_SIZE && header->memory_bytes == memory_bytes &&
           header->count <= TORPOR_MAX_WORKING_SET_PAGES && file_bytes == sizeof *header + 4ull * header->count;
}

static int pages_are_valid(const struct disk_header *header, const uint32_t *pages) {
    for (uint32_t i = 0; i < header->count; i++)
        if (pages[i] >= header->memory_bytes / TORPOR_PAGE_SIZE)
            return 0;
    return torpor_crc32c(0, pages, 4ull * header->count) == header->crc32c;
}

static uint32_t sort_once(uint32_t *pages, uint32_t count) {
    qsort(pages, count, sizeof *pages, compare_pages);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!kept || pages[kept - 1] != pages[i])
            pages[kept++] = pages[i];
    return kept;
}

int torpor_working_set_read(int fd, uint64_t memory_bytes, struct torpor_working_set *set) {
    struct disk_header header;
    struct stat status;
    if (fstat(fd, &status) || pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header ||
        !header_is_valid(&header, memory_bytes, (uint64_t)status.st_size))
        return 0;
    const size_t bytes = 4ull * header.count;
    uint32_t *pages = malloc(bytes ? bytes : 1);
    if (!pages)
        return 0;
    if (pread(fd, pages, bytes, sizeof header) != (ssize_t)bytes || !pages_are_valid(&header, pages)) {
        free(pages);
        return 0;
    }
    *set = (struct torpor_working_set){pages, sort_once(pages, header.count)};
    return 1;
}
