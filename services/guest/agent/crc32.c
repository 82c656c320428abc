// Slicing-by-8: eight table look-ups per eight bytes, without a dependency between them. The guest may run under an
// emulator, where the carry-less multiply instruction is slower than tables.
#include "crc32.h"

#include <string.h>

static uint32_t table[8][256];

static void build_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++) value = (value >> 1) ^ ((value & 1) ? 0xEDB88320u : 0);
        table[0][byte] = value;
    }
    for (int slice = 1; slice < 8; slice++) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t previous = table[slice - 1][byte];
            table[slice][byte] = (previous >> 8) ^ table[0][previous & 0xFF];
        }
    }
}

uint32_t crc32_ieee(const uint8_t *data, size_t length) {
    if (table[0][1] == 0) build_table();
    uint32_t crc = 0xFFFFFFFFu;
    for (; length >= 8; length -= 8, data += 8) {
        uint32_t low, high;
        memcpy(&low, data, 4);
        memcpy(&high, data + 4, 4);
        low ^= crc;
        crc = table[7][low & 0xFF] ^ table[6][(low >> 8) & 0xFF] ^ table[5][(low >> 16) & 0xFF] ^ table[4][low >> 24] ^
              table[3][high & 0xFF] ^ table[2][(high >> 8) & 0xFF] ^ table[1][(high >> 16) & 0xFF] ^ table[0][high >> 24];
    }
    for (; length > 0; length--, data++) crc = (crc >> 8) ^ table[0][(crc ^ *data) & 0xFF];
    return crc ^ 0xFFFFFFFFu;
}
