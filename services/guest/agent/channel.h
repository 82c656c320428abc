// The byte stream to the host: frames in, frames out, both through bounded buffers.
#ifndef TORPOR_CHANNEL_H
#define TORPOR_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "framing.h"
#include "guest.pb-c.h"

enum {
    CHANNEL_RECEIVE_BYTES = 256 << 10,
    CHANNEL_SEND_BYTES = 1 << 20,
    // Flow-controlled data stops here, so that a small reply does not wait behind a megabyte of file.
    CHANNEL_DATA_MARK = 192 << 10,
    // No further request is taken while this much waits: the host must read its answers first.
    CHANNEL_REQUEST_MARK = 512 << 10,
};

enum channel_state { CHANNEL_PROGRESS, CHANNEL_WOULD_BLOCK, CHANNEL_HANGUP };

struct channel {
    int fd;
    // Cleared when the kernel says EAGAIN, set again by an epoll edge.
    bool readable, writable;
    // A frame longer than the limit is thrown away up to the next zero byte.
    bool skipping;
    size_t receive_start, receive_end, receive_scanned;
    size_t send_start, send_end;
    uint64_t dropped_frames;
    uint8_t receive_buffer[CHANNEL_RECEIVE_BYTES];
    uint8_t send_buffer[CHANNEL_SEND_BYTES];
    uint8_t pack_buffer[MAX_FRAME_BYTES + FRAME_CHECKSUM_BYTES];
};

void channel_initialize(struct channel *channel, int fd);

// Reads once from the descriptor. HANGUP: the host end is closed for now.
enum channel_state channel_receive(struct channel *channel);

// Takes the next whole, valid frame from what was received; invalid ones are dropped and counted.
// Returns its payload (valid until the next call on the channel), or NULL when more bytes are needed.
uint8_t *channel_next_frame(struct channel *channel, size_t *length);

// Queues a frame. Callers keep to the marks above, so there is room; a frame above MAX_FRAME_BYTES or without room is
// dropped and false returned.
bool channel_send(struct channel *channel, const Guest__V1__Frame *frame);

// The same for a frame that is already encoded as protobuf.
bool channel_send_packed(struct channel *channel, const uint8_t *packed, size_t length);

bool channel_has_room_for_data(const struct channel *channel);
bool channel_has_room_for_reply(const struct channel *channel);

// Writes what is queued until the descriptor is full.
enum channel_state channel_flush(struct channel *channel);

// Forgets what is queued and starts the next frame behind a zero byte, which ends whatever was cut in the middle.
void channel_restart_sending(struct channel *channel);

// Forgets received bytes as well.
void channel_reset(struct channel *channel);

#endif
