// Numbers that no two living processes may have, such as the users of VMMs. A number is taken by locks on its file: one is inherited
// by the process that has the number, so it stays taken for as long as that lives, whatever becomes of the agent, and none of the
// machine's other agents can take it. The agent has a lock of its own: a process that gives up the inherited one gains nothing.
#include "torpor.h"

#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

static int open_lease(const char *path) {
    const int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fd;
}

// Opens and locks it; returns a descriptor.
static int lock(const char *path, int how) {
    const int fd = open_lease(path);
    if (fd < 0 || !flock(fd, how | LOCK_NB))
        return fd;
    const int error = errno;
    close(fd);
    return -error;
}

TORPOR_EXPORT int torpor_share_lease(const char *path) {
    return lock(path, LOCK_SH);
}

TORPOR_EXPORT int torpor_take_lease(const char *path) {
    const int fd = lock(path, LOCK_EX);
    // Between the two locks another agent may get in: then the number is that one's.
    if (fd < 0 || !flock(fd, LOCK_SH | LOCK_NB))
        return fd;
    const int error = errno;
    close(fd);
    return -error;
}
