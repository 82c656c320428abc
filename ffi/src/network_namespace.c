#include "network_namespace.h"

#include "export.h"
#include "torpor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

struct visit {
    const char *path;
    int (*work)(void *);
    void *argument;
    int result;
};

static int enter(const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    const int error = setns(fd, CLONE_NEWNET) ? -errno : 0;
    close(fd);
    return error;
}

static void *work_there(void *argument) {
    struct visit *visit = argument;
    const int error = enter(visit->path);
    visit->result = error ? error : visit->work(visit->argument);
    return NULL;
}

// A namespace belongs to a thread, so a thread that ends right after enters it: no thread of the caller's can be left in it.
static int run_in_thread(void *(*run)(void *), void *argument) {
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return -error;
    pthread_join(thread, NULL);
    return 0;
}

int in_network_namespace(const char *path, int (*work)(void *), void *argument) {
    if (!path)
        return work(argument);
    struct visit visit = {path, work, argument, 0};
    const int error = run_in_thread(work_there, &visit);
    return error ? error : visit.result;
}

static void *make_one(void *argument) {
    int *result = argument;
    if (unshare(CLONE_NEWNET)) {
        *result = -errno;
        return NULL;
    }
    const int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    *result = fd < 0 ? -errno : fd;
    return NULL;
}

TORPOR_EXPORT int torpor_new_network_namespace(void) {
    int result = 0;
    const int error = run_in_thread(make_one, &result);
    return error ? error : result;
}

struct setting {
    const char *name;
    const char *value;
};

// A procfs that is mounted nowhere: container engines mount /proc/sys read-only.
static int open_in_own_procfs(const char *path) {
    const int context = fsopen("proc", FSOPEN_CLOEXEC);
    if (context < 0)
        return -1;
    const int root = fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) ? -1 : fsmount(context, FSMOUNT_CLOEXEC, 0);
    const int fd = root < 0 ? -1 : openat(root, path, O_WRONLY | O_CLOEXEC);
    const int error = errno;
    if (root >= 0)
        close(root);
    close(context);
    errno = error;
    return fd;
}

static int write_setting(void *argument) {
    const struct setting *setting = argument;
    char path[256];
    const int length = snprintf(path, sizeof path, "/proc/sys/net/%s", setting->name);
    if (length < 0 || (size_t)length >= sizeof path || strstr(setting->name, ".."))
        return -EINVAL;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno == EROFS)
        fd = open_in_own_procfs(path + strlen("/proc/"));
    if (fd < 0)
        return -errno;
    const int error = write(fd, setting->value, strlen(setting->value)) < 0 ? -errno : 0;
    close(fd);
    return error;
}

// /proc/sys/net shows the settings of the namespace of the thread that looks.
TORPOR_EXPORT int torpor_network_setting(const char *name, const char *value, const char *namespace_path) {
    struct setting setting = {name, value};
    return in_network_namespace(namespace_path, write_setting, &setting);
}
