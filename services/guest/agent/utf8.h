#ifndef TORPOR_UTF8_H
#define TORPOR_UTF8_H

#include <stddef.h>

// Copies text into buffer (size > 3), cut to fit, each byte that is not part of valid UTF-8 replaced by U+FFFD: names of
// files are bytes, but `string` fields of protobuf must be UTF-8 or the host rejects the frame.
void utf8_sanitize(const char *text, char *buffer, size_t size);

#endif
