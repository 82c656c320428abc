// Namespaces that are made once and that each confined program gets: a root directory with little in it, a network with nothing in it.
//
// Each is made by a thread of its own, which ends; the namespace lives on by its descriptor. Building a root takes about a
// millisecond, and joining it a few microseconds.
#include "torpor.h"

#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

// Any directory that is everywhere and that nothing is taken from: the new root is built over it.
#define SITE "/proc"
#define SMALL "mode=0755,size=64k,nr_inodes=64"

struct work {
    int (*make)(const struct work *);
    const char *strings;
    uint64_t length;
    int result;
};

static int failed(void) {
    return -errno;
}

static int make_parents(char *path) {
    for (char *slash = strchr(path + sizeof SITE, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        const int status = mkdir(path, 0755);
        *slash = '/';
        if (status && errno != EEXIST)
            return failed();
    }
    return 0;
}

static int make_place(const char *path, bool directory) {
    if (directory)
        return mkdir(path, 0755) && errno != EEXIST ? failed() : 0;
    const int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    return fd < 0 ? failed() : close(fd);
}

// A symbolic link stays one: /lib is often one to usr/lib.
static int put_link(const char *from, const char *path) {
    char target[PATH_MAX];
    const ssize_t length = readlink(from, target, sizeof target - 1);
    if (length < 0)
        return failed();
    target[length] = 0;
    return symlink(target, path) ? failed() : 0;
}

static int put(const char *from, const char *to) {
    char path[PATH_MAX];
    struct stat status;
    if (snprintf(path, sizeof path, SITE "%s", to) >= (int)sizeof path)
        return -ENAMETOOLONG;
    if (lstat(from, &status))
        return failed();
    int error = make_parents(path);
    if (error)
        return error;
    if (S_ISLNK(status.st_mode))
        return put_link(from, path);
    error = make_place(path, S_ISDIR(status.st_mode));
    if (error)
        return error;
    const unsigned long read_only = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV;
    return mount(from, path, NULL, MS_BIND, NULL) || mount(NULL, path, NULL, read_only, NULL) ? failed() : 0;
}

static int put_all(const char *strings, uint64_t length) {
    for (const char *at = strings, *end = strings + length; at < end;) {
        const char *to = at + strlen(at) + 1;
        if (to >= end || *to != '/')
            return -EINVAL;
        const int error = put(at, to);
        if (error)
            return error;
        at = to + strlen(to) + 1;
    }
    return 0;
}

// Nodes of its own, that every user may use: those of the machine may be closed to all but root. Where nodes cannot be made (a
// container), the machine's take their place.
static int put_device(const char *name, bool needed) {
    char here[64], there[64];
    struct stat status;
    snprintf(here, sizeof here, "/dev/%s", name);
    snprintf(there, sizeof there, SITE "/dev/%s", name);
    if (stat(here, &status))
        return needed ? failed() : 0;
    if (!S_ISCHR(status.st_mode))
        return needed ? -ENODEV : 0;
    if (!mknod(there, S_IFCHR | 0666, status.st_rdev))
        return chmod(there, 0666) ? failed() : 0;
    if (errno != EPERM)
        return failed();
    const int error = make_place(there, false);
    return error ? error : mount(here, there, NULL, MS_BIND, NULL) ? failed() : 0;
}

static int put_devices(void) {
    static const char *const needed[] = {"null", "zero", "full", "random", "urandom"};
    if (mkdir(SITE "/dev", 0755) || mount("tmpfs", SITE "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, SMALL))
        return failed();
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        const int error = put_device(needed[i], true);
        if (error)
            return error;
    }
    const int error = put_device("kvm", false);
    if (error)
        return error;
    return mount(NULL, SITE "/dev", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) ? failed() : 0;
}

static int build(const struct work *work) {
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("tmpfs", SITE, "tmpfs", MS_NOSUID | MS_NODEV, SMALL))
        return failed();
    int error = put_all(work->strings, work->length);
    if (!error)
        error = put_devices();
    if (error)
        return error;
    // /proc is mounted by each program, with what it may see.
    if (mkdir(SITE SITE, 0555) || mount(NULL, SITE, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL))
        return failed();
    // The old root is stacked on the new one and taken away.
    return chdir(SITE) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/") ? failed() : 0;
}

static int make_root(const struct work *work) {
    if (unshare(CLONE_NEWNS))
        return failed();
    const int fd = open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return failed();
    const int error = build(work);
    if (!error)
        return fd;
    close(fd);
    return error;
}

static int make_network(const struct work *work) {
    (void)work;
    if (unshare(CLONE_NEWNET))
        return failed();
    const int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? failed() : fd;
}

static void *run(void *argument) {
    struct work *work = argument;
    work->result = work->make(work);
    return NULL;
}

static int in_thread(struct work work) {
    pthread_t thread;
    const int error = pthread_create(&thread, NULL, run, &work);
    if (error)
        return -error;
    pthread_join(thread, NULL);
    return work.result;
}

TORPOR_EXPORT int torpor_make_root(const char *strings, uint64_t length) {
    if (!length || strings[length - 1])
        return -EINVAL;
    return in_thread((struct work){make_root, strings, length, 0});
}

TORPOR_EXPORT int torpor_make_network(void) {
    return in_thread((struct work){make_network, NULL, 0, 0});
}
