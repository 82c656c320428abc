#include <stdio.h>

#include "test.h"

static unsigned long long state = 1;

void test_report(const char *file, int line, const char *condition) {
    printf("  %s:%d: %s\n", file, line, condition);
}

void test_seed(unsigned long long seed) { state = seed * 2654435761u + 1; }

unsigned long long test_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

int main(void) {
    const struct test *const groups[] = {framing_tests, output_log_tests, utf8_tests, fuzz_tests};
    int passed = 0, failed = 0;
    for (size_t group = 0; group < sizeof groups / sizeof *groups; group++) {
        for (const struct test *test = groups[group]; test->name; test++) {
            test_seed((unsigned)(passed + failed + 1));
            bool good = test->run();
            printf("%s %s\n", good ? "ok" : "FAIL", test->name);
            fflush(stdout);
            good ? passed++ : failed++;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
