// Frames on the byte stream: COBS(payload || crc32 little endian) and one zero byte.
#ifndef TORPOR_FRAMING_H
#define TORPOR_FRAMING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bounds.h"

enum { FRAME_CHECKSUM_BYTES = 4 };

// Room that framing_encode may need for a payload of `payload_length` bytes.
static inline size_t framing_bound(size_t payload_length) {
    size_t plain = payload_length + FRAME_CHECKSUM_BYTES;
    return plain + plain / 254 + 2;
}

enum { MAX_ENCODED_FRAME_BYTES = MAX_FRAME_BYTES + FRAME_CHECKSUM_BYTES + (MAX_FRAME_BYTES + FRAME_CHECKSUM_BYTES) / 254 + 2 };

// Encodes one frame with its final zero byte.
// payload: must have FRAME_CHECKSUM_BYTES of room after payload_length; they are overwritten.
// output: at least framing_bound(payload_length) bytes. Returns the bytes written.
size_t framing_encode(uint8_t *payload, size_t payload_length, uint8_t *output);

// Decodes one frame (without its final zero byte) in place.
// Returns the payload length, or -1 when the bytes are no valid COBS or the checksum is wrong.
ssize_t framing_decode(uint8_t *frame, size_t length);

#endif
