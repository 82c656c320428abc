// Bitmaps with one bit per page, least significant bit first.
#pragma once

#include <stdbool.h>
#include <stdint.h>

static inline bool get_bit(const uint64_t *bitmap, uint64_t page) {
    return bitmap[page / 64] >> (page % 64) & 1;
}

static inline void set_bits(uint64_t *bitmap, uint64_t page, uint64_t count, bool value) {
    for (; count; page++, count--) {
        const uint64_t bit = 1ull << (page % 64);
        bitmap[page / 64] = value ? bitmap[page / 64] | bit : bitmap[page / 64] & ~bit;
    }
}
