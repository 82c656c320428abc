#ifndef TORPOR_WAKE_H
#define TORPOR_WAKE_H

#include "agent.h"

// Clock, entropy, identity, thaw: in this order, at once. The first failure ends it, and what was frozen stays so: user
// processes never run with another sandbox's random numbers or name.
void wake(struct agent *agent, struct stream *stream, const Guest__V1__Wake *request);

#endif
