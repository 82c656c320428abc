#include "utf8.h"

#include <string.h>

#include "test.h"

static bool becomes(const char *text, const char *expected) {
    char buffer[64];
    utf8_sanitize(text, buffer, sizeof buffer);
    return strcmp(buffer, expected) == 0;
}

#define REPLACED "\xEF\xBF\xBD"

static bool invalid_bytes_are_replaced(void) {
    CHECK(becomes("plain", "plain"));
    CHECK(becomes("gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80", "gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80"));
    CHECK(becomes("a\xFF" "b", "a" REPLACED "b"));
    CHECK(becomes("\xC3", REPLACED));
    CHECK(becomes("\xC0\xAF", REPLACED REPLACED));
    CHECK(becomes("\xE0\x80\x80", REPLACED REPLACED REPLACED));
    CHECK(becomes("\xED\xA0\x80", REPLACED REPLACED REPLACED));
    CHECK(becomes("\xF4\x90\x80\x80", REPLACED REPLACED REPLACED REPLACED));
    return true;
}

static bool text_is_cut_between_characters(void) {
    char buffer[5];
    utf8_sanitize("abc\xE2\x82\xAC", buffer, sizeof buffer);
    CHECK(strcmp(buffer, "abc") == 0);
    utf8_sanitize("a\xE2\x82\xAC" "b", buffer, sizeof buffer);
    CHECK(strcmp(buffer, "a\xE2\x82\xAC") == 0);
    return true;
}

const struct test utf8_tests[] = {
    {"bytes that are no UTF-8 are replaced one by one", invalid_bytes_are_replaced},
    {"text is cut between characters", text_is_cut_between_characters},
    {0},
};
