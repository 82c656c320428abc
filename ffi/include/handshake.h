// The message that a VMM (Firecracker, or QEMU through the shim) sends to its pager together with the userfaultfd:
// [{"base_host_virt_addr":N,"size":N,"offset":N,"page_size":4096,"page_size_kib":4096}, …], all in bytes, page_size_kib too
// (Firecracker's deprecated field). The shim adds "tracking" (write protection is armed) and "uffd_fd" (its number in the VMM).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TORPOR_MAX_REGIONS 8
#define TORPOR_HANDSHAKE_BYTES 4096

struct torpor_region {
    uint64_t base_host_virt_addr;
    uint64_t size;
    uint64_t offset;
};

struct torpor_handshake {
    struct torpor_region regions[TORPOR_MAX_REGIONS];
    uint32_t region_count;
    bool tracking;
    int32_t uffd_fd;
};

// Writes the message of a VMM with one region. Returns its length or -1 when `capacity` is too small.
int torpor_handshake_format(char *text, size_t capacity, const struct torpor_handshake *handshake);

// Parses and checks a message: page aligned regions without overflow, sorted by `offset` on return.
// Returns NULL or what is wrong.
const char *torpor_handshake_parse(const char *text, size_t length, struct torpor_handshake *handshake);

// Whether the regions cover [0, size_bytes) exactly, each byte once.
bool torpor_handshake_covers(const struct torpor_handshake *handshake, uint64_t size_bytes);
