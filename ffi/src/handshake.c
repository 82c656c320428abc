// The VMM's message to its pager.
#include "handshake.h"

#include "kernel_compat.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int torpor_handshake_format(char *text, size_t capacity, const struct torpor_handshake *handshake) {
    const struct torpor_region *region = &handshake->regions[0];
    const int length = snprintf(text, capacity,
                                "[{\"base_host_virt_addr\":%" PRIu64 ",\"size\":%" PRIu64 ",\"offset\":%" PRIu64
                                ",\"page_size\":%llu,\"page_size_kib\":%llu,\"tracking\":%s,\"uffd_fd\":%d}]",
                                region->base_host_virt_addr, region->size, region->offset, TORPOR_PAGE_SIZE, TORPOR_PAGE_SIZE,
                                handshake->tracking ? "true" : "false", handshake->uffd_fd);
    return length > 0 && (size_t)length < capacity ? length : -1;
}

struct cursor {
    const char *at;
    const char *end;
};

static void skip_space(struct cursor *text) {
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\t' || *text->at == '\r'))
        text->at++;
}

static bool take(struct cursor *text, char wanted) {
    skip_space(text);
    if (text->at == text->end || *text->at != wanted)
        return false;
    text->at++;
    return true;
}

static bool take_word(struct cursor *text, const char *word) {
    const size_t length = strlen(word);
    if ((size_t)(text->end - text->at) < length || memcmp(text->at, word, length))
        return false;
    text->at += length;
    return true;
}

// A string without escapes: none of the field names and values of this message needs one.
static bool take_string(struct cursor *text, const char **start, size_t *length) {
    if (!take(text, '"'))
        return false;
    *start = text->at;
    while (text->at < text->end && *text->at != '"' && *text->at != '\\')
        text->at++;
    *length = (size_t)(text->at - *start);
    return take(text, '"');
}

static bool take_number(struct cursor *text, uint64_t *value) {
    const char *start = text->at;
    *value = 0;
    for (; text->at < text->end && *text->at >= '0' && *text->at <= '9'; text->at++)
        if (__builtin_mul_overflow(*value, 10, value) || __builtin_add_overflow(*value, (uint64_t)(*text->at - '0'), value))
            return false;
    return text->at != start;
}

struct value {
    enum { NUMBER, BOOLEAN, OTHER } type;
    uint64_t number;
};

static bool take_value(struct cursor *text, struct value *value) {
    const char *start;
    size_t length;
    skip_space(text);
    value->type = OTHER;
    value->number = 0;
    if (take_word(text, "null"))
        return true;
    if (take_word(text, "false") || (value->number = take_word(text, "true"))) {
        value->type = BOOLEAN;
        return true;
    }
    if (text->at < text->end && *text->at == '"')
        return take_string(text, &start, &length);
    value->type = NUMBER;
    return take_number(text, &value->number);
}

enum field { BASE = 1, SIZE = 2, OFFSET = 4, PAGE = 8 };

static bool is_name(const char *name, size_t length, const char *wanted) {
    return length == strlen(wanted) && !memcmp(name, wanted, length);
}

static const char *store(struct torpor_handshake *handshake, struct torpor_region *region, unsigned *seen, const char *name,
                         size_t length, const struct value *value) {
    const bool number = value->type == NUMBER;
    if (is_name(name, length, "tracking") && value->type == BOOLEAN)
        handshake->tracking = value->number != 0;
    else if (is_name(name, length, "uffd_fd") && number && value->number <= INT32_MAX)
        handshake->uffd_fd = (int32_t)value->number;
    else if (is_name(name, length, "base_host_virt_addr") && number)
        region->base_host_virt_addr = value->number, *seen |= BASE;
    else if (is_name(name, length, "size") && number)
        region->size = value->number, *seen |= SIZE;
    else if (is_name(name, length, "offset") && number)
        region->offset = value->number, *seen |= OFFSET;
    else if (is_name(name, length, "page_size") || is_name(name, length, "page_size_kib")) {
        if (!number || value->number != TORPOR_PAGE_SIZE)
            return "page size is not 4096 bytes";
        *seen |= PAGE;
    }
    return NULL;
}

static const char *check_region(const struct torpor_region *region, unsigned seen) {
    uint64_t end;
    if (seen != (BASE | SIZE | OFFSET | PAGE))
        return "region lacks a field";
    if (region->base_host_virt_addr % TORPOR_PAGE_SIZE || region->size % TORPOR_PAGE_SIZE || region->offset % TORPOR_PAGE_SIZE)
        return "region is not page aligned";
    if (!region->size || __builtin_add_overflow(region->base_host_virt_addr, region->size, &end) ||
        __builtin_add_overflow(region->offset, region->size, &end))
        return "region is empty or wraps around";
    return NULL;
}

static const char *parse_region(struct cursor *text, struct torpor_handshake *handshake) {
    if (handshake->region_count == TORPOR_MAX_REGIONS)
        return "too many regions";
    struct torpor_region region = {0};
    unsigned seen = 0;
    if (!take(text, '{'))
        return "region is no object";
    do {
        const char *name;
        size_t length;
        struct value value;
        if (!take_string(text, &name, &length) || !take(text, ':') || !take_value(text, &value))
            return "malformed field";
        const char *wrong = store(handshake, &region, &seen, name, length, &value);
        if (wrong)
            return wrong;
    } while (take(text, ','));
    if (!take(text, '}'))
        return "region does not end";
    const char *wrong = check_region(&region, seen);
    if (!wrong)
        handshake->regions[handshake->region_count++] = region;
    return wrong;
}

static int by_offset(const void *left, const void *right) {
    const uint64_t a = ((const struct torpor_region *)left)->offset, b = ((const struct torpor_region *)right)->offset;
    return a < b ? -1 : a > b;
}

const char *torpor_handshake_parse(const char *text, size_t length, struct torpor_handshake *handshake) {
    struct cursor cursor = {text, text + length};
    *handshake = (struct torpor_handshake){.uffd_fd = -1};
    if (!take(&cursor, '['))
        return "message is no array";
    do {
        const char *wrong = parse_region(&cursor, handshake);
        if (wrong)
            return wrong;
    } while (take(&cursor, ','));
    if (!take(&cursor, ']'))
        return "array does not end";
    skip_space(&cursor);
    if (cursor.at != cursor.end)
        return "bytes after the array";
    qsort(handshake->regions, handshake->region_count, sizeof *handshake->regions, by_offset);
    return NULL;
}

bool torpor_handshake_covers(const struct torpor_handshake *handshake, uint64_t size_bytes) {
    uint64_t next = 0;
    for (uint32_t i = 0; i < handshake->region_count; i++) {
        if (handshake->regions[i].offset != next)
            return false;
        next += handshake->regions[i].size;
    }
    return next == size_bytes;
}
