#define _GNU_SOURCE
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool holds_data(const struct mntent *mount) {
    static const char *const volatile_types[] = {"proc",   "sysfs",   "tmpfs",  "devtmpfs",   "devpts", "cgroup2",
                                                 "mqueue", "debugfs", "cgroup", "securityfs", "bpf",    "rootfs"};
    for (size_t i = 0; i < sizeof volatile_types / sizeof *volatile_types; i++) {
        if (strcmp(mount->mnt_type, volatile_types[i]) == 0) return false;
    }
    return hasmntopt(mount, "ro") == NULL;
}

int mounts_visit_writable(int (*visit)(int fd, void *context), void *context) {
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    if (!mounts) return errno;
    int first_error = 0;
    for (struct mntent *mount; (mount = getmntent(mounts)) != NULL;) {
        if (!holds_data(mount)) continue;
        int fd = open(mount->mnt_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) continue;
        int error = visit(fd, context);
        if (!first_error) first_error = error;
        close(fd);
    }
    endmntent(mounts);
    return first_error;
}

static int sync_one(int fd, void *context) {
    (void)context;
    return syncfs(fd) ? errno : 0;
}

int mounts_sync(void) { return mounts_visit_writable(sync_one, NULL); }
