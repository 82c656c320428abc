// CRC-32C with the processor's instruction where there is one.
#include "crc32c.h"
#include "export.h"

#include <nmmintrin.h>
#include <pthread.h>
#include <string.h>

// Three streams of this many bytes are checksummed at once: the instruction has a latency of three cycles and a throughput of one.
#define STREAM_BYTES 1360ull

static uint32_t table[8][256];
// shift[i][b]: effect on the checksum of STREAM_BYTES zero bytes following a state whose byte i is b.
static uint32_t shift[4][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static uint32_t append_zeros(uint32_t state, uint64_t count) {
    while (count--)
        state = (state >> 8) ^ table[0][state & 0xff];
    return state;
}

static void make_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t state = byte;
        for (int bit = 0; bit < 8; bit++)
            state = (state >> 1) ^ (state & 1 ? 0x82f63b78u : 0);
        table[0][byte] = state;
    }
    for (int k = 1; k < 8; k++)
        for (int byte = 0; byte < 256; byte++)
            table[k][byte] = (table[k - 1][byte] >> 8) ^ table[0][table[k - 1][byte] & 0xff];
    for (int position = 0; position < 4; position++)
        for (uint32_t byte = 0; byte < 256; byte++)
            shift[position][byte] = append_zeros(byte << (8 * position), STREAM_BYTES);
}

static uint64_t load64(const unsigned char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

uint32_t torpor_crc32c_portable(uint32_t seed, const void *bytes, uint64_t length) {
    pthread_once(&tables_once, make_tables);
    const unsigned char *at = bytes;
    uint32_t state = ~seed;
    for (; length >= 8; at += 8, length -= 8) {
        uint64_t word = load64(at) ^ state;
        state = 0;
        for (int k = 0; k < 8; k++)
            state ^= table[7 - k][(word >> (8 * k)) & 0xff];
    }
    while (length--)
        state = (state >> 8) ^ table[0][(state ^ *at++) & 0xff];
    return ~state;
}

static uint32_t shifted(uint32_t state) {
    return shift[0][state & 0xff] ^ shift[1][(state >> 8) & 0xff] ^ shift[2][(state >> 16) & 0xff] ^ shift[3][state >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_hardware(uint32_t seed, const unsigned char *at, uint64_t length) {
    uint64_t state = ~seed;
    while (length >= 3 * STREAM_BYTES) {
        uint64_t second = 0, third = 0;
        for (uint64_t i = 0; i < STREAM_BYTES; i += 8) {
            state = _mm_crc32_u64(state, load64(at + i));
            second = _mm_crc32_u64(second, load64(at + STREAM_BYTES + i));
            third = _mm_crc32_u64(third, load64(at + 2 * STREAM_BYTES + i));
        }
        state = shifted(shifted((uint32_t)state) ^ (uint32_t)second) ^ (uint32_t)third;
        at += 3 * STREAM_BYTES;
        length -= 3 * STREAM_BYTES;
    }
    for (; length >= 8; at += 8, length -= 8)
        state = _mm_crc32_u64(state, load64(at));
    while (length--)
        state = _mm_crc32_u8((uint32_t)state, *at++);
    return ~(uint32_t)state;
}

TORPOR_EXPORT uint32_t torpor_crc32c(uint32_t seed, const void *bytes, uint64_t length) {
    if (!__builtin_cpu_supports("sse4.2"))
        return torpor_crc32c_portable(seed, bytes, length);
    pthread_once(&tables_once, make_tables);
    return crc32c_hardware(seed, bytes, length);
}
