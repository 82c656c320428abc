// Requests about the machine as a whole. Each answers at once.
#ifndef TORPOR_MACHINE_H
#define TORPOR_MACHINE_H

#include "agent.h"

void machine_ping(struct agent *agent, struct stream *stream);
void machine_metrics(struct agent *agent, struct stream *stream);

// Bytes of RAM, 0 when the kernel does not say.
uint64_t machine_memory_bytes(void);

#endif
