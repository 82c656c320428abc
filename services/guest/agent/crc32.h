#ifndef TORPOR_CRC32_H
#define TORPOR_CRC32_H

#include <stddef.h>
#include <stdint.h>

// CRC-32 (IEEE 802.3, reflected, as zlib's crc32) of `length` bytes.
uint32_t crc32_ieee(const uint8_t *data, size_t length);

#endif
