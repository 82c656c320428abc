// A VMM stand-in with the shim, a pager, and what connects them: all real processes.
#pragma once

#include "pager_stats.h"
#include "snapshot.h"
#include "vmm.h"

#include <stdbool.h>

struct rig {
    struct snapshot snapshot;
    int memfd;
    int result_fd;
    unsigned char *result;
    int stats_fd;
    struct torpor_pager_stats *stats;
    int control;
    int vmm_socket;   // the VMM's end
    int pager_socket; // the pager's end
    int vmm, vmm_pidfd;
    int pager, pager_pidfd;
};

struct rig_options {
    bool tracking;
    bool alone; // without a pager: nothing is loaded lazily
    const char *fault_around; // NULL: the default
    int user;                 // of the VMM; 0: root
    int base_fd;              // a base to map instead of the memfd; 0: none
    int working_set;          // descriptor of the file; 0: none
    const char *control_socket; // NULL: none
};

// Makes memory, statistics and sockets and starts the VMM; the handshake waits in the socket.
struct rig start_vmm(struct snapshot snapshot, const struct rig_options *options);
// Starts a pager at `socket` (the rig's own, or another one that holds a handshake). `vmm_pidfd` or -1.
void start_pager(struct rig *rig, const struct rig_options *options, int socket, int vmm_pidfd);
struct rig start_rig(struct snapshot snapshot, const struct rig_options *options);

uint64_t tell(struct rig *rig, enum vmm_operation operation, uint64_t offset, uint64_t length, uint64_t argument);
void send_command(struct rig *rig, enum vmm_operation operation, uint64_t offset, uint64_t length, uint64_t argument);
uint64_t receive_reply(struct rig *rig);

// Copies all memory out with `threads` threads and compares it with what the snapshot says.
void check_memory(struct rig *rig, int threads);
// Waits for the end and returns the exit code, or 1000 + signal.
int wait_end(int pidfd);
void stop_rig(struct rig *rig); // kills the VMM and checks that the pager ends with status 0

// Starts `path` (built file) with these NUL-separated arguments, descriptors and environment.
int start_process(const char *path, const char *const *arguments, const char *const *environment, const int32_t *descriptors,
                  int descriptor_count, int user, int *pidfd);
