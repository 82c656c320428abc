// PreparePause: what the guest does before its vCPUs stop. Each reclaim step runs in a child of its own, so that one that
// hangs in the kernel stops neither the agent nor the next step.
#ifndef TORPOR_PREPARE_H
#define TORPOR_PREPARE_H

#include "agent.h"

void prepare_start(struct agent *agent, struct stream *stream, const Guest__V1__PreparePause *request);

// When the step under way has used up its time (CLOCK_MONOTONIC, ns), or 0.
uint64_t prepare_next_deadline(const struct agent *agent);

#endif
