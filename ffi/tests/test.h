// A small test harness: each test runs in a process of its own, so that a crash, a leak or a namespace stays with it.
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};

void test_register(struct test *test);

#define TEST(identifier)                                                                                              \
    static void identifier(void);                                                                                     \
    static struct test test_##identifier = {#identifier, identifier, NULL};                                           \
    __attribute__((constructor)) static void register_##identifier(void) { test_register(&test_##identifier); }        \
    static void identifier(void)

#define CHECK(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            fprintf(stderr, "  %s:%d: %s\n", __FILE__, __LINE__, #condition);                                         \
            exit(1);                                                                                                  \
        }                                                                                                             \
    } while (0)

#define CHECK_EQ(actual, expected)                                                                                    \
    do {                                                                                                              \
        const long long actual_value = (long long)(actual), expected_value = (long long)(expected);                   \
        if (actual_value != expected_value) {                                                                         \
            fprintf(stderr, "  %s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #actual, actual_value,             \
                    expected_value);                                                                                  \
            exit(1);                                                                                                  \
        }                                                                                                             \
    } while (0)

// Deterministic random numbers (splitmix64).
static inline uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static inline void fill_random(uint64_t *state, void *bytes, size_t length) {
    for (size_t i = 0; i + 8 <= length; i += 8) {
        const uint64_t word = next_random(state);
        memcpy((char *)bytes + i, &word, 8);
    }
}

// A file that the build made, by name; the string is kept for ever.
const char *built_file(const char *name);
