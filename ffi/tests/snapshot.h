// Random snapshots: an extent header, its sources, and what the memory must look like.
#pragma once

#include "extent_header.h"

#define MAX_TEST_SOURCES 70

struct snapshot {
    uint64_t size;
    unsigned char *expected;
    unsigned char *header;
    uint64_t header_length;
    int header_fd;
    int sources[MAX_TEST_SOURCES];
    uint32_t source_count;
};

// `pages` pages in extents of up to `longest` pages from `source_count` sources and zeros.
struct snapshot make_snapshot(uint64_t seed, uint64_t pages, uint32_t source_count, uint64_t longest);
void free_snapshot(struct snapshot *snapshot);

// A header file of these extents with a right checksum.
unsigned char *make_header(uint64_t size, uint32_t source_count, const struct torpor_extent *extents, uint64_t extent_count,
                           uint64_t *length);
void fix_checksum(unsigned char *header, uint64_t length);
