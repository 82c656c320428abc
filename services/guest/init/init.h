// Process 1 of the guest.
#ifndef TORPOR_INIT_H
#define TORPOR_INIT_H

#include <stdbool.h>
#include <stddef.h>

// Writes the reason to the console and powers the machine off: nothing useful can follow.
_Noreturn void give_up(const char *step, int errno_value);
_Noreturn void power_off(void);

// Writes text into an existing file (/proc, /sys). 0, or an errno.
int write_text(const char *path, const char *text);
// The same for a setting that can be done without: says on the console when it fails.
void set(const char *path, const char *text);

// modules.c: loads the modules of the initramfs in the order of its list, then frees their memory.
void modules_load(void);

// mounts.c
void mounts_early(void);
// Joins the read-only base (/dev/vda) and the sandbox's writable disk (/dev/vdb) by overlayfs and makes it the root.
// Returns a descriptor of the writable disk, which only the agent gets: below the overlay, nobody else reaches it.
int mounts_enter_root(void);
void mounts_late(void);

// system.c: hostname, machine id, network, sysctls, cgroups.
void system_configure(void);

// network.c: loopback, the address that all guests have, resolver. Without a network device only the first.
void network_configure(void);

#endif
