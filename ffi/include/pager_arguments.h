// What the command lines of both pagers have in common.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define TORPOR_DEFAULT_FAULT_AROUND 65536ull
#define TORPOR_MAX_FAULT_AROUND (2ull << 20)

bool torpor_parse_number(const char *text, uint64_t *value);

// The number of a descriptor that is open.
bool torpor_parse_descriptor(const char *text, int *fd);

// A power of two in 4096 … TORPOR_MAX_FAULT_AROUND.
bool torpor_is_fault_around(uint64_t bytes);

// A signalfd with SIGTERM and SIGINT, which are blocked from now on. Returns -1 and sets errno.
int torpor_pager_open_signals(void);
