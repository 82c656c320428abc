/** The largest message that a service reads or writes: 64 MiB of output on each of stdout and stderr, and its frame. */
export const MAX_MESSAGE_BYTES = 130 * 1024 * 1024;

/** Messages of unary calls up to this size are blocks of bytes; longer ones are streams, whose length is checked on the way. */
export const MAX_WHOLE_BYTES = 1024 * 1024;
