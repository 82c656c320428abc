// A base pager and VMM stand-ins whose memory is a private mapping of its base: all real processes.
#pragma once

#include "rig.h"

#define MAX_TEST_BASE_SIBLINGS 8

struct base_rig {
    struct snapshot snapshot;
    int base_fd;  // what the agent made
    int clone_fd; // the same, opened for reading only: what a VMM gets
    int stats_fd;
    struct torpor_pager_stats *stats;
    int agent_end, pager_end; // of the control socket; the pager inherits both
    int pager, pager_pidfd;   // the keeper
};

struct base_options {
    const char *fault_around; // NULL: the default
    const char *idle_ms;      // NULL: 3000, so that what a failed test leaves behind ends
    int prefetch_fd;          // 0: none
    const char *control_socket; // NULL: none
};

// Makes base, statistics and control socket, and starts the pager.
struct base_rig start_base(struct snapshot snapshot, const struct base_options *options);
// Starts a pager for what `base` has, as a successor.
void start_base_pager(struct base_rig *base, const struct base_options *options);
// The process that serves, as soon as it is another one than `other_than`.
uint32_t server_of(const struct base_rig *base, uint32_t other_than);
void kill_server(const struct base_rig *base);
// Waits for its end and checks the exit status.
void expect_base_end(struct base_rig *base, int status);
// Asks the pager to take `rig`'s VMM, which has been started or not; the handshake is, or will be, in `socket`.
// Returns the error of the reply, or -1 when the pager ended first.
int join_base(struct base_rig *base, struct rig *rig, int socket, int vmm_pidfd);
// Starts a VMM and has it taken. Its `snapshot.expected` is its own.
struct rig start_sibling(struct base_rig *base);
void stop_sibling(struct rig *sibling);
// All bytes of a sibling are as expected. Two halves, so that many can do it at the same time.
void begin_check(struct rig *sibling, int threads);
void end_check(struct rig *sibling);
