#ifndef TORPOR_STATUS_H
#define TORPOR_STATUS_H

#include <stddef.h>

#include "guest.pb-c.h"

// The protocol's status for an errno of the kernel.
Guest__V1__StatusCode status_of_errno(int errno_value);

// Writes "what: description" into buffer.
void status_message(char *buffer, size_t size, const char *what, int errno_value);

#endif
