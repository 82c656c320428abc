#include "framing.h"

#include <stdlib.h>
#include <string.h>

#include "crc32.h"
#include "test.h"

static bool checksum_matches_published_vectors(void) {
    CHECK(crc32_ieee((const uint8_t *)"123456789", 9) == 0xCBF43926u);
    CHECK(crc32_ieee((const uint8_t *)"", 0) == 0);
    CHECK(crc32_ieee((const uint8_t *)"The quick brown fox jumps over the lazy dog", 43) == 0x414FA339u);
    return true;
}

static bool round_trip(const uint8_t *payload, size_t length) {
    uint8_t *plain = malloc(length + FRAME_CHECKSUM_BYTES);
    uint8_t *encoded = malloc(framing_bound(length));
    if (length) memcpy(plain, payload, length);
    size_t written = framing_encode(plain, length, encoded);
    bool good = written <= framing_bound(length) && encoded[written - 1] == 0 && !memchr(encoded, 0, written - 1) &&
                framing_decode(encoded, written - 1) == (ssize_t)length &&
                (length == 0 || memcmp(encoded, payload, length) == 0);
    free(plain);
    free(encoded);
    return good;
}

static bool frames_survive_encoding(void) {
    static uint8_t payload[MAX_FRAME_BYTES];
    // Lengths around COBS's longest run of 254, with all, some and no zero bytes.
    for (unsigned density = 0; density < 4; density++) {
        for (size_t length = 0; length < 1100; length++) {
            for (size_t i = 0; i < length; i++) {
                payload[i] = density == 0 ? 0 : density == 3 ? 1 : (uint8_t)(test_random() % (density == 1 ? 3 : 400));
            }
            CHECK(round_trip(payload, length));
        }
    }
    for (size_t i = 0; i < sizeof payload; i++) payload[i] = (uint8_t)test_random();
    CHECK(round_trip(payload, sizeof payload));
    return true;
}

static bool damaged_frames_are_refused(void) {
    for (int attempt = 0; attempt < 20000; attempt++) {
        uint8_t plain[304], encoded[400];
        size_t length = test_random() % 300;
        for (size_t i = 0; i < length; i++) plain[i] = (uint8_t)(test_random() % 5);
        size_t written = framing_encode(plain, length, encoded) - 1;
        encoded[test_random() % written] ^= (uint8_t)(1 + test_random() % 255);
        // With this seed no damage happens to collide with the 32-bit checksum.
        CHECK(framing_decode(encoded, written) < 0);
    }
    return true;
}

static bool cut_frames_are_refused(void) {
    uint8_t plain[304], encoded[400];
    for (size_t i = 0; i < 300; i++) plain[i] = (uint8_t)(i * 7);
    size_t written = framing_encode(plain, 300, encoded) - 1;
    for (size_t length = 0; length < written; length++) {
        uint8_t copy[400];
        memcpy(copy, encoded, length);
        CHECK(framing_decode(copy, length) < 0);
    }
    return true;
}

const struct test framing_tests[] = {
    {"CRC-32 matches the published vectors", checksum_matches_published_vectors},
    {"frames of every length and density of zeros survive encoding", frames_survive_encoding},
    {"a damaged frame is refused", damaged_frames_are_refused},
    {"a cut frame is refused", cut_frames_are_refused},
    {0},
};
