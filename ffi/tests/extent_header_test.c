// Each rule of docs/formats/extent-header.md, and random damage.
#include "extent_header.h"
#include "crc32c.h"
#include "snapshot.h"
#include "test.h"

#define PAGE 4096ull
#define MUTATIONS 200000

static const struct torpor_extent three[] = {
    {0, 2 * PAGE, PAGE, 0, 0}, {2 * PAGE, 5 * PAGE, 0, TORPOR_SOURCE_ZERO, 0}, {7 * PAGE, PAGE, 0, 1, 0}};

static unsigned char *good(uint64_t *length) {
    return make_header(8 * PAGE, 2, three, 3, length);
}

static enum torpor_header_rule parse(const void *bytes, uint64_t length) {
    struct torpor_extent_header header;
    return torpor_extent_header_parse(bytes, length, &header);
}

// Overwrites `width` bytes at `at`, makes the checksum right again, and says which rule is broken then.
static enum torpor_header_rule with(uint64_t at, uint64_t value, unsigned width) {
    uint64_t length;
    unsigned char *header = good(&length);
    memcpy(header + at, &value, width);
    fix_checksum(header, length);
    const enum torpor_header_rule rule = parse(header, length);
    free(header);
    return rule;
}

#define EXTENT(k) (64 + 2 * 32 + 32ull * (k))

TEST(header_good) {
    uint64_t length;
    unsigned char *bytes = good(&length);
    struct torpor_extent_header header;
    CHECK_EQ(torpor_extent_header_parse(bytes, length, &header), TORPOR_HEADER_OK);
    CHECK_EQ(header.size_bytes, 8 * PAGE);
    CHECK_EQ(header.source_count, 2);
    CHECK(!memcmp(header.sources[1], "source00000000000001", 20));
    for (uint64_t hint = 0; hint < 5; hint++)
        for (uint64_t page = 0; page < 8; page++)
            CHECK_EQ(torpor_extent_find(&header, page * PAGE, hint), page < 2 ? 0 : page < 7 ? 1 : 2);
    free(bytes);
}

TEST(header_fixed_part_rules) {
    CHECK_EQ(with(0, 't', 1), TORPOR_HEADER_MAGIC);
    CHECK_EQ(with(8, 2, 4), TORPOR_HEADER_VERSION);
    CHECK_EQ(with(12, 2, 4), TORPOR_HEADER_OK); // disk
    CHECK_EQ(with(12, 3, 4), TORPOR_HEADER_KIND);
    CHECK_EQ(with(12, 0, 4), TORPOR_HEADER_KIND);
    CHECK_EQ(with(16, 8192, 4), TORPOR_HEADER_PAGE_SIZE);
    CHECK_EQ(with(20, 0, 4), TORPOR_HEADER_GENERATION);
    CHECK_EQ(with(24, 0, 8), TORPOR_HEADER_SIZE_BYTES);
    CHECK_EQ(with(24, 8 * PAGE + 1, 8), TORPOR_HEADER_SIZE_BYTES);
    CHECK_EQ(with(24, (1ull << 44) + PAGE, 8), TORPOR_HEADER_SIZE_BYTES);
    CHECK_EQ(with(32, 65536, 4), TORPOR_HEADER_SOURCE_COUNT);
    CHECK_EQ(with(40, 0, 8), TORPOR_HEADER_EXTENT_COUNT);
    CHECK_EQ(with(40, 9, 8), TORPOR_HEADER_EXTENT_COUNT);
    CHECK_EQ(with(40, UINT64_MAX / 32 + 2, 8), TORPOR_HEADER_EXTENT_COUNT);
    CHECK_EQ(with(48, 1, 1), TORPOR_HEADER_RESERVED);
    CHECK_EQ(with(63, 1, 1), TORPOR_HEADER_RESERVED);
    CHECK_EQ(with(40, 4, 8), TORPOR_HEADER_FILE_SIZE);
    CHECK_EQ(with(32, 3, 4), TORPOR_HEADER_FILE_SIZE);
}

TEST(header_checksum_and_length) {
    uint64_t length;
    unsigned char *header = good(&length);
    for (uint64_t cut = 0; cut < length; cut++)
        CHECK_EQ(parse(header, cut), cut < 64 ? TORPOR_HEADER_TOO_SHORT : TORPOR_HEADER_FILE_SIZE);
    for (uint64_t bit = 64 * 8; bit < length * 8; bit++) {
        header[bit / 8] ^= (unsigned char)(1 << bit % 8);
        CHECK_EQ(parse(header, length), TORPOR_HEADER_CRC32C);
        header[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    free(header);
}

TEST(header_source_rules) {
    CHECK_EQ(with(64, 'A', 1), TORPOR_HEADER_SOURCE_ID);
    CHECK_EQ(with(64, '/', 1), TORPOR_HEADER_SOURCE_ID);
    CHECK_EQ(with(64 + 19, 0, 1), TORPOR_HEADER_SOURCE_ID);
    CHECK_EQ(with(64 + 20, 1, 1), TORPOR_HEADER_SOURCE_ID);
    CHECK_EQ(with(64 + 31, 1, 1), TORPOR_HEADER_SOURCE_ID);
    CHECK_EQ(with(64 + 32 + 19, '0', 1), TORPOR_HEADER_SOURCE_DUPLICATE);
}

TEST(header_extent_rules) {
    CHECK_EQ(with(EXTENT(0), 1, 8), TORPOR_HEADER_EXTENT_ALIGNMENT);
    CHECK_EQ(with(EXTENT(0) + 8, 0, 8), TORPOR_HEADER_EXTENT_LENGTH);
    CHECK_EQ(with(EXTENT(0) + 8, PAGE + 512, 8), TORPOR_HEADER_EXTENT_LENGTH);
    CHECK_EQ(with(EXTENT(0) + 16, 100, 8), TORPOR_HEADER_EXTENT_SOURCE_OFFSET);
    CHECK_EQ(with(EXTENT(0) + 16, (1ull << 52) + PAGE, 8), TORPOR_HEADER_EXTENT_SOURCE_OFFSET);
    CHECK_EQ(with(EXTENT(1) + 16, PAGE, 8), TORPOR_HEADER_EXTENT_SOURCE_OFFSET);
    CHECK_EQ(with(EXTENT(0) + 24, 2, 4), TORPOR_HEADER_EXTENT_SOURCE);
    CHECK_EQ(with(EXTENT(0) + 24, 0xfffffffe, 4), TORPOR_HEADER_EXTENT_SOURCE);
    CHECK_EQ(with(EXTENT(0) + 28, 1, 4), TORPOR_HEADER_EXTENT_RESERVED);
    CHECK_EQ(with(EXTENT(0), PAGE, 8), TORPOR_HEADER_COVERAGE);
    CHECK_EQ(with(EXTENT(1), 3 * PAGE, 8), TORPOR_HEADER_COVERAGE);      // a gap
    CHECK_EQ(with(EXTENT(1), PAGE, 8), TORPOR_HEADER_COVERAGE);          // an overlap
    CHECK_EQ(with(EXTENT(2) + 8, 2 * PAGE, 8), TORPOR_HEADER_COVERAGE);  // beyond the end
    CHECK_EQ(with(EXTENT(1) + 8, 0 - PAGE, 8), TORPOR_HEADER_COVERAGE);  // wraps around
    CHECK_EQ(with(24, 9 * PAGE, 8), TORPOR_HEADER_COVERAGE);             // short of the end
    CHECK_EQ(with(EXTENT(2) + 24, TORPOR_SOURCE_ZERO, 4), TORPOR_HEADER_NOT_MERGED);
}

TEST(header_continuing_extents_must_be_merged) {
    const struct torpor_extent two[] = {{0, 2 * PAGE, PAGE, 0, 0}, {2 * PAGE, PAGE, 3 * PAGE, 0, 0}};
    uint64_t length;
    unsigned char *header = make_header(3 * PAGE, 1, two, 2, &length);
    CHECK_EQ(parse(header, length), TORPOR_HEADER_NOT_MERGED);
    free(header);
}

// What was accepted must be usable: every page has exactly one extent, in bounds of its own fields.
static void check_accepted(const struct torpor_extent_header *header) {
    uint64_t next = 0;
    for (uint64_t i = 0; i < header->extent_count; i++) {
        CHECK_EQ(header->extents[i].offset, next);
        CHECK(header->extents[i].source == TORPOR_SOURCE_ZERO || header->extents[i].source < header->source_count);
        CHECK_EQ(torpor_extent_find(header, next, i * 7), i);
        next += header->extents[i].length;
        CHECK_EQ(torpor_extent_find(header, next - PAGE, 0), i);
    }
    CHECK_EQ(next, header->size_bytes);
}

TEST(header_survives_random_damage) {
    static const uint64_t interesting[] = {0, 1, PAGE, 2 * PAGE, 8 * PAGE, 0xffffffff, UINT64_MAX, 1ull << 44, 1ull << 63};
    uint64_t random = 1, length, accepted = 0;
    unsigned char *original = good(&length), *bytes = malloc(length);
    for (int i = 0; i < MUTATIONS; i++) {
        memcpy(bytes, original, length);
        for (uint64_t changes = 1 + next_random(&random) % 3; changes; changes--) {
            const uint64_t at = next_random(&random) % (length / 4) * 4, kind = next_random(&random) % 3;
            const uint64_t value = kind ? interesting[next_random(&random) % 9] : next_random(&random);
            memcpy(bytes + at, &value, at + 8 <= length && kind == 2 ? 8 : 4);
        }
        const uint64_t shortened = next_random(&random) % 8 ? length : next_random(&random) % length;
        if (shortened >= 64)
            fix_checksum(bytes, shortened);
        unsigned char *exact = malloc(shortened + 1); // so that AddressSanitizer sees a read behind the end
        memcpy(exact, bytes, shortened);
        struct torpor_extent_header header;
        unsigned char *tight = realloc(exact, shortened ? shortened : 1);
        if (torpor_extent_header_parse(tight, shortened, &header) == TORPOR_HEADER_OK) {
            check_accepted(&header);
            accepted++;
        }
        free(tight);
    }
    CHECK(accepted > 0 && accepted < MUTATIONS);
    free(original);
    free(bytes);
}

TEST(crc32c_known_answers) {
    unsigned char zeros[32] = {0}, ones[32], rising[32];
    memset(ones, 0xff, sizeof ones);
    for (int i = 0; i < 32; i++)
        rising[i] = (unsigned char)i;
    CHECK_EQ(torpor_crc32c(0, "123456789", 9), 0xe3069283); // RFC 3720 B.4 and the usual check value
    CHECK_EQ(torpor_crc32c(0, zeros, 32), 0x8a9136aa);
    CHECK_EQ(torpor_crc32c(0, ones, 32), 0x62a8ab43);
    CHECK_EQ(torpor_crc32c(0, rising, 32), 0x46dd794e);
}

TEST(crc32c_portable_hardware_and_pieces_agree) {
    uint64_t random = 2;
    unsigned char *bytes = malloc(20000);
    fill_random(&random, bytes, 20000);
    for (int i = 0; i < 2000; i++) {
        const uint64_t from = next_random(&random) % 64, length = next_random(&random) % (20000 - from);
        const uint64_t cut = length ? next_random(&random) % length : 0;
        const uint32_t whole = torpor_crc32c(0, bytes + from, length);
        CHECK_EQ(torpor_crc32c_portable(0, bytes + from, length), whole);
        CHECK_EQ(torpor_crc32c(torpor_crc32c(0, bytes + from, cut), bytes + from + cut, length - cut), whole);
    }
    free(bytes);
}
