#include "utf8.h"

#include <stdint.h>
#include <string.h>

// Length of the valid sequence at `bytes`, or 0. The text ends with a zero byte, which is never a continuation.
static size_t sequence_length(const uint8_t *bytes) {
    uint8_t lead = bytes[0];
    if (lead < 0x80) return 1;
    size_t length = lead >= 0xC2 && lead <= 0xDF ? 2 : (lead & 0xF0) == 0xE0 ? 3 : lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xC0) != 0x80) return 0;
    }
    // Overlong forms, surrogates and values above U+10FFFF.
    if (lead == 0xE0 && bytes[1] < 0xA0) return 0;
    if (lead == 0xED && bytes[1] > 0x9F) return 0;
    if (lead == 0xF0 && bytes[1] < 0x90) return 0;
    if (lead == 0xF4 && bytes[1] > 0x8F) return 0;
    return length;
}

void utf8_sanitize(const char *text, char *buffer, size_t size) {
    size_t written = 0;
    while (*text) {
        size_t length = sequence_length((const uint8_t *)text);
        size_t needed = length ? length : 3;
        if (written + needed + 1 > size) break;
        memcpy(buffer + written, length ? text : "\xEF\xBF\xBD", needed);
        written += needed;
        text += length ? length : 1;
    }
    buffer[written] = 0;
}
