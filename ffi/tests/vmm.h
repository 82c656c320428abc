// Commands to the stand-in for a VMM (vmm.c).
#pragma once

#include <stdint.h>

enum vmm_operation {
    VMM_ADDRESS,  // reply: address of the guest's memory
    VMM_COPY_OUT, // copies [offset, offset + length) to the result memfd with `argument` threads in random order
    VMM_READ,     // reads one byte of each page of the range in order; reply: their sum
    VMM_WRITE,    // writes `argument` to the first byte of each page of the range
    VMM_TOUCH,    // starts a thread for each page of the range that reads it; reply at once
    VMM_JOIN,     // waits for these threads; reply: the sum of the bytes they read
    VMM_DISCARD,  // gives the range back as QEMU does: punches the hole, then MADV_DONTNEED
    VMM_PUNCH,    // the first half of that, in a thread that VMM_JOIN waits for; reply at once
    VMM_DONTNEED, // the second half
    VMM_REMOVE,   // MADV_REMOVE
    VMM_REMOVE_START, // the same in a thread that VMM_JOIN waits for; reply at once
    VMM_ENVIRONMENT,  // reply: 1 if LD_PRELOAD or TORPOR_SHIM_* is set
    VMM_FORK,         // reply: the signal that a forked child dies of when it reads the guest's memory
};

struct vmm_command {
    uint64_t operation;
    uint64_t offset;
    uint64_t length;
    uint64_t argument;
};
