// What the agent says to a base pager on its control socket (a stream socket; each message is sent whole).
//
// JOIN carries three or four descriptors:
//   0  a connected unix socket: one message of the VMM (handshake.h) with the userfaultfd; it closes when the VMM is gone. The message
//      is never taken out of it: a successor of the server finds it there
//   1  the sibling's statistics memfd (pager_stats.h)
//   2  a socket for the reply; it ends without one when the pager ends first
//   3  optional: the VMM's pidfd; the end of the socket then means nothing (it was made by an agent that hands over a userfaultfd)
// ffi/base_pager.ts writes and reads these.
#pragma once

#include <stdint.h>

#define TORPOR_BASE_MAGIC 0x45534142u // "BASE"
#define TORPOR_BASE_JOIN 1u
#define TORPOR_MAX_SIBLINGS 1024u

struct torpor_base_message {
    uint32_t magic;
    uint32_t kind;
};

struct torpor_base_reply {
    int32_t error;    // 0, or the errno for which the sibling was not taken
    int32_t stats_fd; // number of the sibling's statistics memfd in the keeper
};
