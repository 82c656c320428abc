#ifndef TORPOR_MOUNTS_H
#define TORPOR_MOUNTS_H

// Calls `visit` with a descriptor of each writable file system that keeps data. May block. Returns the first error, after
// all have been visited.
int mounts_visit_writable(int (*visit)(int fd, void *context), void *context);

// syncfs of all of them. May block. 0, or an errno.
int mounts_sync(void);

#endif
