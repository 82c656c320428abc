/** The largest message that a service reads or writes: 64 MiB of output on each of stdout and stderr, and its frame. */
export const MAX_MESSAGE_BYTES = 130 * 1024 * 1024;
