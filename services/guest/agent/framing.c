#include "framing.h"

#include <string.h>

#include "crc32.h"

enum { LONGEST_RUN = 254 };

static inline uint64_t load_word(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

// The lowest set bit is in the first zero byte of the word; 0 when it has none (Mycroft's test).
static inline uint64_t zero_bytes(uint64_t word) {
    return (word - 0x0101010101010101u) & ~word & 0x8080808080808080u;
}

static size_t count_zeros(const uint8_t *input, const uint8_t *end) {
    const uint8_t *start = input;
    while (end - input >= 8 && load_word(input) == 0) input += 8;
    while (input < end && *input == 0) input++;
    return (size_t)(input - start);
}

// Copies up to the first zero byte or the end of the window; returns how many bytes. Words instead of memchr and
// memcpy: runs are short, and the emulated guest runs plain 64-bit code best.
static size_t copy_run(const uint8_t *input, size_t window, uint8_t *output) {
    size_t run = 0;
    while (window - run >= 8) {
        uint64_t word = load_word(input + run), zeros = zero_bytes(word);
        // Bytes behind a zero are overwritten by the next run; the output has room for the whole word.
        memcpy(output + run, &word, sizeof word);
        if (zeros) return run + (size_t)__builtin_ctzll(zeros) / 8;
        run += 8;
    }
    while (run < window && input[run] != 0) {
        output[run] = input[run];
        run++;
    }
    return run;
}

static size_t cobs_encode(const uint8_t *input, size_t length, uint8_t *output) {
    uint8_t *out = output;
    const uint8_t *end = input + length;
    for (;;) {
        // Zeros at the start of a run are runs of length 0. Files are full of them.
        if (input < end && *input == 0) {
            size_t zeros = count_zeros(input, end);
            memset(out, 1, zeros);
            out += zeros;
            input += zeros;
        }
        size_t left = (size_t)(end - input);
        size_t window = left < LONGEST_RUN ? left : LONGEST_RUN;
        uint8_t *code = out++;
        size_t run = copy_run(input, window, out);
        *code = (uint8_t)(run + 1);
        out += run;
        input += run;
        if (run < window) {
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
        if (code > 1) {
            memmove(frame + written, frame + read, code - 1);
            read += code - 1;
            written += code - 1;
        }
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
