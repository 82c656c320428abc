// Descriptors over unix sockets (SCM_RIGHTS).
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TORPOR_MAX_PASSED_DESCRIPTORS 32

// Sends `length` (> 0) bytes with `count` descriptors as one message. The descriptors stay the caller's.
// Returns 0 or -errno; a partial write is -EMSGSIZE.
int torpor_send_descriptors(int socket, const void *data, uint64_t length, const int *descriptors, uint32_t count);

// Waits at most `timeout_ms` (-1: for ever) for one message. With `peek` the message stays in the queue and the descriptors are
// duplicates. Up to TORPOR_MAX_PASSED_DESCRIPTORS close-on-exec descriptors go to `descriptors`; they are the caller's to close.
// Returns the number of bytes (0 = end of stream) or -errno: -ETIMEDOUT, -EMSGSIZE when data or descriptors were cut off
// (whatever arrived is closed).
int64_t torpor_receive_descriptors(int socket, void *data, uint64_t capacity, int *descriptors, uint32_t *count, int timeout_ms,
                                   int peek);
