#include "channel.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void channel_initialize(struct channel *channel, int fd) {
    channel->fd = fd;
    channel->dropped_frames = 0;
    channel->readable = channel->writable = true;
    channel_reset(channel);
}

void channel_reset(struct channel *channel) {
    channel->receive_start = channel->receive_end = channel->receive_scanned = 0;
    channel->send_start = channel->send_end = 0;
    channel->skipping = false;
}

void channel_restart_sending(struct channel *channel) {
    channel->send_start = 0;
    channel->send_end = 1;
    channel->send_buffer[0] = 0;
}

static void compact_received(struct channel *channel) {
    size_t pending = channel->receive_end - channel->receive_start;
    memmove(channel->receive_buffer, channel->receive_buffer + channel->receive_start, pending);
    channel->receive_scanned -= channel->receive_start;
    channel->receive_start = 0;
    channel->receive_end = pending;
}

enum channel_state channel_receive(struct channel *channel) {
    if (channel->receive_start == channel->receive_end) {
        channel->receive_start = channel->receive_end = channel->receive_scanned = 0;
    } else if (channel->receive_end > sizeof channel->receive_buffer / 2) {
        compact_received(channel);
    }
    // Frames are taken out before the buffer fills (they are under 70 KiB); full means they wait for the reply mark.
    size_t room = sizeof channel->receive_buffer - channel->receive_end;
    if (room == 0) return CHANNEL_WOULD_BLOCK;
    ssize_t got = read(channel->fd, channel->receive_buffer + channel->receive_end, room);
    if (got > 0) {
        channel->receive_end += (size_t)got;
        return CHANNEL_PROGRESS;
    }
    if (got < 0 && errno == EINTR) return CHANNEL_PROGRESS;
    channel->readable = false;
    return got < 0 && errno == EAGAIN ? CHANNEL_WOULD_BLOCK : CHANNEL_HANGUP;
}

static uint8_t *take_until_zero(struct channel *channel, size_t *length) {
    uint8_t *start = channel->receive_buffer + channel->receive_start;
    uint8_t *scan = channel->receive_buffer + channel->receive_scanned;
    uint8_t *zero = memchr(scan, 0, channel->receive_end - channel->receive_scanned);
    if (!zero) {
        channel->receive_scanned = channel->receive_end;
        if (channel->receive_end - channel->receive_start >= MAX_ENCODED_FRAME_BYTES) {
            channel->skipping = true;
            channel->receive_start = channel->receive_end;
        }
        return NULL;
    }
    *length = (size_t)(zero - start);
    channel->receive_start = channel->receive_scanned = (size_t)(zero + 1 - channel->receive_buffer);
    return start;
}

uint8_t *channel_next_frame(struct channel *channel, size_t *length) {
    uint8_t *frame;
    size_t encoded;
    while ((frame = take_until_zero(channel, &encoded)) != NULL) {
        bool skipped = channel->skipping || encoded >= MAX_ENCODED_FRAME_BYTES;
        channel->skipping = false;
        if (encoded == 0) continue;
        ssize_t decoded = skipped ? -1 : framing_decode(frame, encoded);
        if (decoded >= 0 && decoded <= MAX_FRAME_BYTES) {
            *length = (size_t)decoded;
            return frame;
        }
        channel->dropped_frames++;
    }
    return NULL;
}

static size_t queued(const struct channel *channel) { return channel->send_end - channel->send_start; }

bool channel_has_room_for_data(const struct channel *channel) { return queued(channel) < CHANNEL_DATA_MARK; }
bool channel_has_room_for_reply(const struct channel *channel) { return queued(channel) < CHANNEL_REQUEST_MARK; }

static bool send_pack_buffer(struct channel *channel, size_t length) {
    size_t bound = framing_bound(length);
    if (sizeof channel->send_buffer - channel->send_end < bound) {
        memmove(channel->send_buffer, channel->send_buffer + channel->send_start, queued(channel));
        channel->send_end -= channel->send_start;
        channel->send_start = 0;
        if (sizeof channel->send_buffer - channel->send_end < bound) return false;
    }
    channel->send_end += framing_encode(channel->pack_buffer, length, channel->send_buffer + channel->send_end);
    return true;
}

bool channel_send(struct channel *channel, const Guest__V1__Frame *frame) {
    if (guest__v1__frame__get_packed_size(frame) > MAX_FRAME_BYTES) return false;
    return send_pack_buffer(channel, guest__v1__frame__pack(frame, channel->pack_buffer));
}

bool channel_send_packed(struct channel *channel, const uint8_t *packed, size_t length) {
    if (length > MAX_FRAME_BYTES) return false;
    memcpy(channel->pack_buffer, packed, length);
    return send_pack_buffer(channel, length);
}

enum channel_state channel_flush(struct channel *channel) {
    while (queued(channel) > 0) {
        ssize_t written = write(channel->fd, channel->send_buffer + channel->send_start, queued(channel));
        if (written > 0) {
            channel->send_start += (size_t)written;
            continue;
        }
        if (written < 0 && errno == EINTR) continue;
        channel->writable = false;
        return written == 0 || errno == EAGAIN ? CHANNEL_WOULD_BLOCK : CHANNEL_HANGUP;
    }
    channel->send_start = channel->send_end = 0;
    return CHANNEL_PROGRESS;
}
