// What differs between the agent in a guest (guest_platform.c) and the same agent as a program of the host under test
// (tests/native_platform.c). Chosen at link time.
#ifndef TORPOR_PLATFORM_H
#define TORPOR_PLATFORM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

// Opens the port to the host, non-blocking. Waits until it exists.
int platform_open_port(int argc, char **argv);

// A virtio port comes back after a hang-up, when a new host end connects.
bool platform_port_survives_hangup(void);

// fork(2) for a process of the user: the child is outside of the agent's protection (OOM score, cgroup).
pid_t platform_fork_user_process(void);

// Sets CLOCK_REALTIME. 0, or an errno.
int platform_set_realtime(int64_t unix_ns);

// Mixes entropy into the kernel's generator and makes it reseed. 0, or an errno.
int platform_add_entropy(const uint8_t *bytes, uint32_t length);

// Directory of the cgroup (v2) that the user's processes are in, NULL without one.
const char *platform_user_cgroup(void);

// Makes the machine another one: hostname, /etc/machine-id, /run/torpor/generation. Checked before. 0, or an errno.
int platform_set_identity(const char *hostname, const char *machine_id, const char *generation);

#endif
