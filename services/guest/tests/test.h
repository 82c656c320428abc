// The smallest test harness: a test is a function, a failed check prints where and ends the test.
#ifndef TORPOR_TEST_H
#define TORPOR_TEST_H

#include <stdbool.h>

struct test {
    const char *name;
    // true: passed.
    bool (*run)(void);
};

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            test_report(__FILE__, __LINE__, #condition);                          \
            return false;                                                         \
        }                                                                         \
    } while (0)

void test_report(const char *file, int line, const char *condition);

// A repeatable sequence of pseudo-random numbers.
unsigned long long test_random(void);
void test_seed(unsigned long long seed);

extern const struct test framing_tests[], output_log_tests[], utf8_tests[], fuzz_tests[];

#endif
