// Process 1: prepares the root file system, starts the agent, starts it again when it dies, reaps orphans.
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RESTART_PAUSE_MS = 100 };

_Noreturn void power_off(void) {
    sync();
    reboot(RB_POWER_OFF);
    // A machine that can't switch itself off restarts, which the VMM's -no-reboot turns into an exit.
    reboot(RB_AUTOBOOT);
    for (;;) pause();
}

_Noreturn void give_up(const char *step, int errno_value) {
    printf("TORPOR_INIT_FAILED %s: %s\n", step, strerror(errno_value));
    power_off();
}

int write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    int error = write(fd, text, strlen(text)) < 0 ? errno : 0;
    close(fd);
    return error;
}

void set(const char *path, const char *text) {
    int error = write_text(path, text);
    if (error) printf("torpor-init: %s: %s\n", path, strerror(error));
}

static void open_console(void) {
    int fd = open("/dev/console", O_RDWR);
    for (int standard = 0; fd >= 0 && standard <= 2; standard++) {
        if (fd != standard) dup2(fd, standard);
    }
    if (fd > 2) close(fd);
    setvbuf(stdout, NULL, _IOLBF, 0);
}

static bool command_line_has(const char *word) {
    FILE *file = fopen("/proc/cmdline", "re");
    char line[4096] = "";
    if (!file) return false;
    if (!fgets(line, sizeof line, file)) line[0] = 0;
    fclose(file);
    for (char *next = line, *found; (found = strsep(&next, " \n")) != NULL;) {
        if (strcmp(found, word) == 0) return true;
    }
    return false;
}

static pid_t start_agent(int agent_fd, int writable_fd) {
    pid_t pid = fork();
    if (pid != 0) return pid;
    char *argv[] = {"torpor-agent", NULL};
    char writable[64];
    snprintf(writable, sizeof writable, "TORPOR_WRITABLE_FD=%d", writable_fd);
    char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", writable, NULL};
    setsid();
    fexecve(agent_fd, argv, environment);
    perror("torpor-init: agent");
    _exit(1);
}

_Noreturn static void supervise(int agent_fd, int writable_fd) {
    pid_t agent = start_agent(agent_fd, writable_fd);
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        if (pid < 0 && errno == EINTR) continue;
        if (pid >= 0 && pid != agent) continue;
        if (agent > 0) printf("torpor-init: the agent ended (wait status %d), starting it again\n", status);
        struct timespec rest = {.tv_nsec = RESTART_PAUSE_MS * 1000000L};
        nanosleep(&rest, NULL);
        agent = start_agent(agent_fd, writable_fd);
    }
}

int main(void) {
    umask(022);
    mounts_early();
    open_console();
    if (command_line_has("torpor.probe")) {
        printf("TORPOR_PROBE_OK\n");
        power_off();
    }
    modules_load();
    // The agent's file stays behind in the initramfs, out of the user's reach; its descriptor starts it again.
    int agent_fd = open("/torpor-agent", O_RDONLY | O_CLOEXEC);
    if (agent_fd < 0) give_up("agent", errno);
    int writable_fd = mounts_enter_root();
    mounts_late();
    system_configure();
    supervise(agent_fd, writable_fd);
}
