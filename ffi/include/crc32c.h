// CRC-32C (Castagnoli), as used by the extent header and by memory.data.
#pragma once

#include <stddef.h>
#include <stdint.h>

// CRC-32C of `length` bytes continuing from `seed`: the checksum of what came before, 0 at the start.
uint32_t torpor_crc32c(uint32_t seed, const void *bytes, uint64_t length);

// The table-driven version that processors without SSE 4.2 use; exported so that a test can compare both.
uint32_t torpor_crc32c_portable(uint32_t seed, const void *bytes, uint64_t length);
