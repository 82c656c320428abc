// Reads what an extent table says, from files that hold its sources.
#pragma once

#include "extent_header.h"

#include <stdint.h>

// Reads all of [offset, offset + length) of a file. Returns 0, -ENODATA when the file ends before that, or another negative errno.
int torpor_read_exactly(int fd, unsigned char *into, uint64_t length, uint64_t offset);

// Reads [offset, offset + length) of what the table describes; source k is sources[k]. `hint` as for torpor_extent_find.
// Returns as torpor_read_exactly.
int torpor_extent_read(const struct torpor_extent_header *header, const int *sources, uint64_t *hint, unsigned char *into,
                       uint64_t length, uint64_t offset);
