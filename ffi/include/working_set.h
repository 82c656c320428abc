// Reader of a working set: pages that earlier resumes of a snapshot touched, in the order of their first fault
// (docs/formats/working-set.md).
#pragma once

#include <stdint.h>

#define TORPOR_MAX_WORKING_SET_PAGES 65536u

// What earlier resumes touched. It is advice: a file that breaks a rule is no working set, and no error.
struct torpor_working_set {
    uint32_t *pages; // in address order, each once
    uint32_t count;
};

// Reads the file. Returns whether it is one for a guest of `memory_bytes`; then the caller owns set->pages (free).
int torpor_working_set_read(int fd, uint64_t memory_bytes, struct torpor_working_set *set);
