// The steps that make a guest smaller before a pause. In a guest: guest_reclaim.c; under test: tests/native_platform.c.
#ifndef TORPOR_RECLAIM_H
#define TORPOR_RECLAIM_H

#include <stdint.h>

enum reclaim_step { RECLAIM_FSTRIM, RECLAIM_SYNC, RECLAIM_DROP_CACHES, RECLAIM_COMPACT_MEMORY, RECLAIM_STEPS };

// A descriptor of the agent that the steps use, -1 for none.
int reclaim_descriptor(void);

// Runs a step to its end, which may never come. *bytes_trimmed is set by RECLAIM_FSTRIM. 0, or an errno.
int reclaim_run(enum reclaim_step step, uint64_t *bytes_trimmed);

#endif
