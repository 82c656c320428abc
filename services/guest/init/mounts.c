#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define BASE_DEVICE "/dev/vda"
#define WRITABLE_DEVICE "/dev/vdb"

enum { DEVICE_ATTEMPTS = 5000 };

static void mount_or_give_up(const char *source, const char *target, const char *type, unsigned long flags,
                             const char *options) {
    if (mount(source, target, type, flags, options)) give_up(target, errno);
}

static void try_mount(const char *source, const char *target, const char *type, unsigned long flags,
                      const char *options) {
    mkdir(target, 0755);
    if (mount(source, target, type, flags, options)) {
        printf("torpor-init: mount %s: %s\n", target, strerror(errno));
    }
}

void mounts_early(void) {
    static const char *const directories[] = {"/dev", "/proc", "/sys", "/base", "/writable", "/root"};
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) mkdir(directories[i], 0755);
    mount_or_give_up("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
    mount_or_give_up("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    mount_or_give_up("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
}

// The driver finds its devices in the background; there is no event to wait for without a netlink listener.
static void wait_for_device(const char *path) {
    struct timespec pause = {.tv_nsec = 2000000};
    for (int attempt = 0; attempt < DEVICE_ATTEMPTS; attempt++) {
        if (access(path, F_OK) == 0) return;
        nanosleep(&pause, NULL);
    }
    give_up(path, ENODEV);
}

int mounts_enter_root(void) {
    wait_for_device(BASE_DEVICE);
    wait_for_device(WRITABLE_DEVICE);
    // noload: the base is shared and read-only, a journal could not be replayed.
    mount_or_give_up(BASE_DEVICE, "/base", "ext4", MS_RDONLY | MS_NOATIME, "noload");
    // noinit_itable: the disk is a sparse file of zeros; zeroing its inode tables would only fill it.
    mount_or_give_up(WRITABLE_DEVICE, "/writable", "ext4", MS_NOATIME, "noinit_itable");
    int writable_fd = open("/writable", O_RDONLY | O_DIRECTORY);
    if (writable_fd < 0) give_up("/writable", errno);
    mkdir("/writable/upper", 0755);
    mkdir("/writable/work", 0755);
    // redirect_dir: renaming a directory of the base is a rename and not EXDEV.
    mount_or_give_up("overlay", "/root", "overlay", MS_NOATIME,
                     "lowerdir=/base,upperdir=/writable/upper,workdir=/writable/work,redirect_dir=on");
    mount_or_give_up("/dev", "/root/dev", NULL, MS_MOVE, NULL);
    mount_or_give_up("/proc", "/root/proc", NULL, MS_MOVE, NULL);
    mount_or_give_up("/sys", "/root/sys", NULL, MS_MOVE, NULL);
    if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/")) {
        give_up("switch of the root", errno);
    }
    return writable_fd;
}

void mounts_late(void) {
    try_mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
    try_mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    try_mount("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    try_mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=20%");
    try_mount("tmpfs", "/run/lock", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=5242880");
    try_mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate");
    static const char *const links[][2] = {
        {"/proc/self/fd", "/dev/fd"},
        {"/proc/self/fd/0", "/dev/stdin"},
        {"/proc/self/fd/1", "/dev/stdout"},
        {"/proc/self/fd/2", "/dev/stderr"},
    };
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        if (symlink(links[i][0], links[i][1]) && errno != EEXIST) perror(links[i][1]);
    }
    chmod("/tmp", 01777);
}
