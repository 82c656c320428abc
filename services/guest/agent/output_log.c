#include "output_log.h"

#include <stdlib.h>
#include <string.h>

#include "bounds.h"

struct event_header {
    uint32_t length;
    uint32_t stream;
};

void output_log_initialize(struct output_log *log) { *log = (struct output_log){.first_sequence = 1, .next_sequence = 1}; }

void output_log_free(struct output_log *log) {
    free(log->bytes);
    log->bytes = NULL;
    log->capacity = 0;
    log->dropped_bytes = log->appended_bytes;
    log->start = log->end;
    log->first_sequence = log->next_sequence;
}

static void copy_out(const struct output_log *log, uint64_t position, void *target, size_t length) {
    size_t offset = position % log->capacity;
    size_t first = log->capacity - offset < length ? log->capacity - offset : length;
    memcpy(target, log->bytes + offset, first);
    memcpy((uint8_t *)target + first, log->bytes, length - first);
}

static void copy_in(struct output_log *log, const void *source, size_t length) {
    if (length == 0) return;
    size_t offset = log->end % log->capacity;
    size_t first = log->capacity - offset < length ? log->capacity - offset : length;
    memcpy(log->bytes + offset, source, first);
    memcpy(log->bytes, (const uint8_t *)source + first, length - first);
    log->end += length;
}

static bool grow(struct output_log *log, size_t needed, size_t limit) {
    if (limit < OUTPUT_LOG_MINIMUM_BYTES) limit = OUTPUT_LOG_MINIMUM_BYTES;
    size_t used = (size_t)(log->end - log->start);
    if (used + needed <= log->capacity || log->capacity >= limit) return true;
    size_t capacity = log->capacity ? log->capacity : 4096;
    while (capacity < used + needed && capacity < limit) capacity *= 2;
    if (capacity > limit) capacity = limit;
    uint8_t *bytes = malloc(capacity);
    if (!bytes) return log->capacity >= needed;
    // The ring's place of a position depends on the capacity: the content moves to where the new one expects it.
    for (uint64_t position = log->start; position < log->end;) {
        size_t from = position % log->capacity, to = position % capacity;
        size_t length = log->capacity - from < capacity - to ? log->capacity - from : capacity - to;
        if (length > log->end - position) length = (size_t)(log->end - position);
        memcpy(bytes + to, log->bytes + from, length);
        position += length;
    }
    free(log->bytes);
    log->bytes = bytes;
    log->capacity = capacity;
    return true;
}

static void drop_oldest(struct output_log *log) {
    struct event_header header;
    copy_out(log, log->start, &header, sizeof header);
    log->start += sizeof header + header.length;
    log->first_sequence++;
    log->dropped_bytes += header.length;
}

bool output_log_append(struct output_log *log, uint32_t stream, const uint8_t *data, uint32_t length, size_t limit) {
    struct event_header header = {.length = length, .stream = stream};
    size_t needed = sizeof header + length;
    if (!grow(log, needed, limit) || log->capacity < needed) return false;
    while (log->end - log->start + needed > log->capacity) drop_oldest(log);
    copy_in(log, &header, sizeof header);
    copy_in(log, data, length);
    log->next_sequence++;
    log->appended_bytes += length;
    return true;
}

struct output_cursor output_log_seek(const struct output_log *log, uint64_t after_sequence) {
    struct output_cursor cursor = {.next_sequence = 1};
    if (after_sequence == 0) return cursor;
    cursor = (struct output_cursor){log->start, log->first_sequence, log->dropped_bytes};
    if (after_sequence + 1 < log->first_sequence && after_sequence + 1 != 0) {
        // How many bytes precede a dropped event is not kept: the gap reports its numbers and zero bytes.
        cursor.next_sequence = after_sequence + 1;
        return cursor;
    }
    struct output_event event;
    while (cursor.next_sequence <= after_sequence && output_log_peek(log, &cursor, &event)) {
        cursor.position += sizeof(struct event_header) + event.length;
        cursor.next_sequence++;
        cursor.seen_bytes += event.length;
    }
    return cursor;
}

uint64_t output_log_lag(const struct output_log *log, const struct output_cursor *cursor) {
    return log->end - (cursor->position < log->start ? log->start : cursor->position);
}

bool output_log_take_gap(const struct output_log *log, struct output_cursor *cursor, struct output_gap *gap) {
    if (cursor->next_sequence >= log->first_sequence) return false;
    *gap = (struct output_gap){
        .first_lost = cursor->next_sequence,
        .last_lost = log->first_sequence - 1,
        .lost_bytes = log->dropped_bytes - cursor->seen_bytes,
    };
    *cursor = (struct output_cursor){log->start, log->first_sequence, log->dropped_bytes};
    return true;
}

bool output_log_peek(const struct output_log *log, const struct output_cursor *cursor, struct output_event *event) {
    if (cursor->next_sequence >= log->next_sequence) return false;
    struct event_header header;
    copy_out(log, cursor->position, &header, sizeof header);
    *event = (struct output_event){cursor->next_sequence, header.stream, header.length};
    return true;
}

void output_log_take(const struct output_log *log, struct output_cursor *cursor, const struct output_event *event,
                     uint8_t *data) {
    copy_out(log, cursor->position + sizeof(struct event_header), data, event->length);
    cursor->position += sizeof(struct event_header) + event->length;
    cursor->next_sequence++;
    cursor->seen_bytes += event->length;
}
