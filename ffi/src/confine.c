// Confining a child before it executes its program.
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

// Other users' processes do not exist for it, nor does anything that is not about processes.
#define PROC_OPTIONS "hidepid=2,subset=pid"

int torpor_confine_raise_oom_score(int score) {
    char text[8];
    const int length = snprintf(text, sizeof text, "%d", score);
    const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    const ssize_t written = write(fd, text, (size_t)length);
    close(fd);
    return written == length ? 0 : -1;
}

int torpor_confine_enter_namespaces(const struct torpor_confinement *confinement) {
    if (confinement->own_ipc && unshare(CLONE_NEWIPC | CLONE_NEWCGROUP))
        return -1;
    if (confinement->network >= 0 && setns(confinement->network, CLONE_NEWNET))
        return -1;
    if (confinement->root < 0)
        return 0;
    // The copy is cheap, as there are only a handful of mounts in it; each has its own /proc.
    if (setns(confinement->root, CLONE_NEWNS) || unshare(CLONE_NEWNS))
        return -1;
    return mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, PROC_OPTIONS);
}

static int limit(int resource, uint64_t most) {
    if (most == UINT64_MAX)
        return 0;
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)resource, &now))
        return -1;
    const rlim_t value = most < now.rlim_max ? most : now.rlim_max;
    const struct rlimit wanted = {value, value};
    return setrlimit((__rlimit_resource_t)resource, &wanted);
}

int torpor_confine_limit(const struct torpor_confinement *confinement) {
    // Without the right to it (an agent that is not root), it serves at its own turn.
    if (confinement->nice)
        (void)setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + confinement->nice);
    return limit(RLIMIT_FSIZE, confinement->max_file_bytes) || limit(RLIMIT_NOFILE, confinement->max_descriptors) ||
                   limit(RLIMIT_NPROC, confinement->max_processes) || limit(RLIMIT_CORE, confinement->max_core_bytes)
               ? -1
               : 0;
}

int torpor_confine_drop_bounding_set(void) {
    // The kernel refuses the first number that it does not know.
    for (unsigned long capability = 0; !prctl(PR_CAPBSET_DROP, capability, 0, 0, 0); capability++)
        ;
    if (errno != EINVAL || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
        return -1;
    // Should it ever become user 0 again, that gives it nothing.
    const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    return prctl(PR_SET_SECUREBITS, bits, 0, 0, 0);
}

int torpor_confine_drop_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    return (int)syscall(SYS_capset, &header, none);
}
