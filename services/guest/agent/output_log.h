// The numbered output of one process: a ring of events, the oldest dropped first. Readers keep their own cursor.
#ifndef TORPOR_OUTPUT_LOG_H
#define TORPOR_OUTPUT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct output_log {
    uint8_t *bytes;
    size_t capacity;
    // Positions count bytes from the log's beginning and never wrap; position % capacity is the place in the ring.
    uint64_t start, end;
    // Number of the oldest event kept, and of the next one to be appended.
    uint64_t first_sequence, next_sequence;
    // Data bytes (without headers) ever appended, and dropped.
    uint64_t appended_bytes, dropped_bytes;
};

struct output_cursor {
    uint64_t position;
    uint64_t next_sequence;
    // Data bytes before next_sequence, to tell how many a gap has lost.
    uint64_t seen_bytes;
};

struct output_event {
    uint64_t sequence;
    uint32_t stream;
    uint32_t length;
};

struct output_gap {
    uint64_t first_lost, last_lost, lost_bytes;
};

void output_log_initialize(struct output_log *log);
void output_log_free(struct output_log *log);

// Appends one event, dropping old ones as needed. limit: the most the ring may grow to now, in bytes; it never shrinks
// and always holds one event of MAX_DATA_BYTES. false when memory is short: nothing was appended.
bool output_log_append(struct output_log *log, uint32_t stream, const uint8_t *data, uint32_t length, size_t limit);

// Places the cursor after event `after_sequence` (0: at the beginning). A number from the future counts as the end.
struct output_cursor output_log_seek(const struct output_log *log, uint64_t after_sequence);

// Bytes between the cursor and the end.
uint64_t output_log_lag(const struct output_log *log, const struct output_cursor *cursor);

// When events before the oldest kept one have left under the cursor: describes them, moves the cursor, returns true.
bool output_log_take_gap(const struct output_log *log, struct output_cursor *cursor, struct output_gap *gap);

// Describes the event at the cursor without moving it. false at the end. No gap may be pending.
bool output_log_peek(const struct output_log *log, const struct output_cursor *cursor, struct output_event *event);

// Copies the data of the peeked event and moves the cursor behind it.
void output_log_take(const struct output_log *log, struct output_cursor *cursor, const struct output_event *event,
                     uint8_t *data);

#endif
