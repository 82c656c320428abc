// The user's processes as a whole: frozen before a pause, thawed after the resume. A guest that nobody thaws, because its
// host has died or forgot, thaws by itself.
#ifndef TORPOR_FREEZER_H
#define TORPOR_FREEZER_H

#include "agent.h"

// Thaws what an earlier agent may have left frozen.
void freezer_initialize(struct agent *agent);

// Asks the kernel to freeze; freezer_is_frozen tells when it is done. watchdog_ms: CLOCK_MONOTONIC time until it thaws by
// itself. 0, or an errno.
int freezer_freeze(struct agent *agent, uint32_t watchdog_ms);

// All processes stand still. Reads the kernel's state only when it has announced a change.
bool freezer_is_frozen(struct agent *agent);

// *thawed (may be NULL): there was something to thaw. 0, or an errno.
int freezer_thaw(struct agent *agent, bool *thawed);

// The watchdog. Its moment (CLOCK_MONOTONIC, ns) or 0.
void freezer_thaw_overdue(struct agent *agent);
uint64_t freezer_next_deadline(const struct agent *agent);

#endif
