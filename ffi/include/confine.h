// What happens to a child between clone and execve so that it can do no more than it must. Like all of spawn.c's child it may use
// nothing but system calls. Functions return 0, or -1 with errno.
#pragma once

#include "torpor.h"

// Before the descriptors are placed: those of the confinement are still open.
int torpor_confine_raise_oom_score(int score);
int torpor_confine_enter_namespaces(const struct torpor_confinement *confinement);
// While it still is the parent's user.
int torpor_confine_limit(const struct torpor_confinement *confinement);
int torpor_confine_drop_bounding_set(void);
// When it is its own user.
int torpor_confine_drop_capabilities(void);
int torpor_confine_filter_system_calls(void);
