#include "output_log.h"

#include <stdlib.h>
#include <string.h>

#include "bounds.h"
#include "test.h"

static uint8_t data[MAX_DATA_BYTES];

// Content of event `sequence`, so that a reader can tell which one it got.
static uint32_t fill(uint64_t sequence, uint32_t length) {
    for (uint32_t i = 0; i < length; i++) data[i] = (uint8_t)(sequence * 31 + i);
    return length;
}

static bool matches(const struct output_event *event, const uint8_t *bytes) {
    for (uint32_t i = 0; i < event->length; i++) {
        if (bytes[i] != (uint8_t)(event->sequence * 31 + i)) return false;
    }
    return event->stream == 1 + event->sequence % 2;
}

static bool append(struct output_log *log, uint32_t length, size_t limit) {
    uint64_t sequence = log->next_sequence;
    return output_log_append(log, (uint32_t)(1 + sequence % 2), data, fill(sequence, length), limit);
}

static bool readers_see_every_event_or_a_gap(void) {
    struct output_log log;
    output_log_initialize(&log);
    struct output_cursor cursor = output_log_seek(&log, 0);
    uint64_t expected = 1, received = 0, lost = 0;
    static uint8_t bytes[MAX_DATA_BYTES];
    for (int step = 0; step < 20000; step++) {
        if (test_random() % 100 < 60) {
            uint32_t length = (uint32_t)(test_random() % 50 == 0 ? 1 + test_random() % MAX_DATA_BYTES
                                                                : 1 + test_random() % 3000);
            CHECK(append(&log, length, OUTPUT_LOG_BYTES));
            CHECK(log.capacity <= OUTPUT_LOG_BYTES);
        }
        struct output_gap gap;
        struct output_event event;
        // A reader that is slower than the writer: it falls behind and loses events.
        if (test_random() % 100 >= 40) continue;
        if (output_log_take_gap(&log, &cursor, &gap)) {
            CHECK(gap.first_lost == expected && gap.last_lost >= gap.first_lost);
            expected = gap.last_lost + 1;
            lost += gap.lost_bytes;
        } else if (output_log_peek(&log, &cursor, &event)) {
            CHECK(event.sequence == expected);
            output_log_take(&log, &cursor, &event, bytes);
            CHECK(matches(&event, bytes));
            expected++;
            received += event.length;
        }
    }
    CHECK(lost > 0 && received > 0);
    struct output_event event;
    struct output_gap gap;
    if (output_log_take_gap(&log, &cursor, &gap)) lost += gap.lost_bytes;
    while (output_log_peek(&log, &cursor, &event)) {
        output_log_take(&log, &cursor, &event, bytes);
        received += event.length;
    }
    CHECK(received + lost == log.appended_bytes);
    output_log_free(&log);
    return true;
}

static bool a_cursor_can_start_after_any_event(void) {
    struct output_log log;
    output_log_initialize(&log);
    static uint8_t bytes[MAX_DATA_BYTES];
    for (int i = 0; i < 100; i++) CHECK(append(&log, 4000, OUTPUT_LOG_MINIMUM_BYTES));
    CHECK(log.first_sequence > 1);
    for (uint64_t after = 0; after < 110; after++) {
        struct output_cursor cursor = output_log_seek(&log, after);
        struct output_gap gap;
        bool lost = after + 1 < log.first_sequence;
        CHECK(output_log_take_gap(&log, &cursor, &gap) == lost);
        if (lost) CHECK(gap.first_lost == after + 1 && gap.last_lost == log.first_sequence - 1);
        struct output_event event;
        uint64_t next = lost ? log.first_sequence : after + 1;
        CHECK(output_log_peek(&log, &cursor, &event) == (next < log.next_sequence));
        if (next >= log.next_sequence) continue;
        CHECK(event.sequence == next);
        output_log_take(&log, &cursor, &event, bytes);
        CHECK(matches(&event, bytes));
    }
    output_log_free(&log);
    return true;
}

static bool a_log_without_budget_still_holds_the_largest_event(void) {
    struct output_log log;
    output_log_initialize(&log);
    for (int i = 0; i < 50; i++) CHECK(append(&log, MAX_DATA_BYTES, 0));
    CHECK(log.capacity <= OUTPUT_LOG_MINIMUM_BYTES);
    CHECK(log.next_sequence - log.first_sequence >= 1);
    output_log_free(&log);
    return true;
}

static bool growth_keeps_what_wraps_around(void) {
    struct output_log log;
    output_log_initialize(&log);
    static uint8_t bytes[MAX_DATA_BYTES];
    // Wrap in the smallest ring, then let it grow.
    for (int i = 0; i < 200; i++) CHECK(append(&log, 1000 + (uint32_t)i, OUTPUT_LOG_MINIMUM_BYTES));
    uint64_t first = log.first_sequence;
    CHECK(first > 1);
    CHECK(append(&log, MAX_DATA_BYTES, OUTPUT_LOG_BYTES));
    CHECK(log.first_sequence == first && log.capacity > OUTPUT_LOG_MINIMUM_BYTES);
    struct output_cursor cursor = output_log_seek(&log, first - 1);
    struct output_event event;
    for (uint64_t sequence = first; sequence < log.next_sequence; sequence++) {
        CHECK(output_log_peek(&log, &cursor, &event) && event.sequence == sequence);
        output_log_take(&log, &cursor, &event, bytes);
        CHECK(matches(&event, bytes));
    }
    output_log_free(&log);
    return true;
}

const struct test output_log_tests[] = {
    {"a reader sees every event once, or a gap in its place", readers_see_every_event_or_a_gap},
    {"a cursor can start after any event", a_cursor_can_start_after_any_event},
    {"a log without budget still holds the largest event", a_log_without_budget_still_holds_the_largest_event},
    {"a ring that grows keeps what wraps around its end", growth_keeps_what_wraps_around},
    {0},
};
