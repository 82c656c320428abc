// The commands of a pager's control socket. Input is untrusted: fixed grammar, no allocation.
#include "pager_control.h"

#include <string.h>

// The number at *at, up to `end` or a blank. Returns false when there is none.
static bool take_number(const char **at, const char *end, uint64_t *value) {
    const char *start = *at;
    *value = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at)
        if (__builtin_mul_overflow(*value, 10, value) || __builtin_add_overflow(*value, (uint64_t)(**at - '0'), value))
            return false;
    return *at != start && (*at - start == 1 || *start != '0');
}

static const char *parse_prefetch(const char *at, const char *end, uint64_t page_count, struct torpor_control_command *command) {
    if (!take_number(&at, end, &command->first) || at == end || *at++ != ' ' || !take_number(&at, end, &command->count) || at != end)
        return "malformed";
    if (!command->count || command->first >= page_count || command->count > page_count - command->first)
        return "out_of_range";
    command->kind = TORPOR_CONTROL_PREFETCH;
    return NULL;
}

const char *torpor_control_parse(const char *line, size_t length, uint64_t page_count, struct torpor_control_command *command) {
    static const char stats[] = "stats", prefetch[] = "prefetch ";
    if (length == sizeof stats - 1 && !memcmp(line, stats, length)) {
        command->kind = TORPOR_CONTROL_STATS;
        return NULL;
    }
    if (length >= sizeof prefetch - 1 && !memcmp(line, prefetch, sizeof prefetch - 1))
        return parse_prefetch(line + sizeof prefetch - 1, line + length, page_count, command);
    return "unknown_command";
}
