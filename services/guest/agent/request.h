#ifndef TORPOR_REQUEST_H
#define TORPOR_REQUEST_H

#include "agent.h"

// Acts on one decoded frame payload of the host. What is malformed or out of order is ignored.
void request_handle(struct agent *agent, const uint8_t *payload, size_t length);

#endif
