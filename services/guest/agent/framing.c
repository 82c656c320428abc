#include "framing.h"

#include <string.h>

#include "crc32.h"

enum { LONGEST_RUN = 254 };

static size_t cobs_encode(const uint8_t *input, size_t length, uint8_t *output) {
    uint8_t *out = output;
    const uint8_t *end = input + length;
    for (;;) {
        size_t left = (size_t)(end - input);
        size_t window = left < LONGEST_RUN ? left : LONGEST_RUN;
        const uint8_t *zero = memchr(input, 0, window);
        size_t run = zero ? (size_t)(zero - input) : window;
        *out++ = (uint8_t)(run + 1);
        memcpy(out, input, run);
        out += run;
        input += run;
        if (zero) {
            input++;
        } else if (run < LONGEST_RUN || input == end) {
            break;
        }
    }
    return (size_t)(out - output);
}

static ssize_t cobs_decode(uint8_t *frame, size_t length) {
    // The write position never passes the read position, so decoding in place is safe.
    size_t read = 0, written = 0;
    while (read < length) {
        size_t code = frame[read++];
        if (code == 0 || code - 1 > length - read) return -1;
        memmove(frame + written, frame + read, code - 1);
        read += code - 1;
        written += code - 1;
        if (code != LONGEST_RUN + 1 && read < length) frame[written++] = 0;
    }
    return (ssize_t)written;
}

size_t framing_encode(uint8_t *payload, size_t payload_length, uint8_t *output) {
    uint32_t crc = crc32_ieee(payload, payload_length);
    uint8_t *checksum = payload + payload_length;
    for (int i = 0; i < FRAME_CHECKSUM_BYTES; i++) checksum[i] = (uint8_t)(crc >> (8 * i));
    size_t written = cobs_encode(payload, payload_length + FRAME_CHECKSUM_BYTES, output);
    output[written++] = 0;
    return written;
}

ssize_t framing_decode(uint8_t *frame, size_t length) {
    ssize_t plain = cobs_decode(frame, length);
    if (plain < FRAME_CHECKSUM_BYTES) return -1;
    size_t payload_length = (size_t)plain - FRAME_CHECKSUM_BYTES;
    uint32_t expected = 0;
    for (int i = 0; i < FRAME_CHECKSUM_BYTES; i++) expected |= (uint32_t)frame[payload_length + (size_t)i] << (8 * i);
    return crc32_ieee(frame, payload_length) == expected ? (ssize_t)payload_length : -1;
}
