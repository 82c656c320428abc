#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "init.h"

#define USER_CGROUP "/sys/fs/cgroup/user"

static void set_hostname(void) {
    char name[64] = "sandbox";
    FILE *file = fopen("/etc/hostname", "re");
    if (file) {
        if (fgets(name, sizeof name, file)) name[strcspn(name, "\n")] = 0;
        fclose(file);
    }
    if (sethostname(name, strlen(name))) perror("torpor-init: hostname");
}

// The base image has an empty machine-id, so that sandboxes do not share one.
static void set_machine_id(void) {
    struct stat status;
    if (stat("/etc/machine-id", &status) == 0 && status.st_size > 0) return;
    uint8_t bytes[16];
    char text[34];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) return;
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    strcpy(text + 32, "\n");
    int fd = open("/etc/machine-id", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0444);
    if (fd < 0 || write(fd, text, 33) != 33) perror("torpor-init: machine-id");
    if (fd >= 0) close(fd);
}

// The user's processes live in a cgroup of their own whose memory and pids end before the machine's do, so that the
// agent can still fork when they have used theirs up.
static void make_user_cgroup(void) {
    set("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +memory +pids");
    if (mkdir(USER_CGROUP, 0755)) perror("torpor-init: " USER_CGROUP);
    struct sysinfo information;
    if (sysinfo(&information)) return;
    uint64_t total = (uint64_t)information.totalram * information.mem_unit;
    uint64_t reserve = total / 16 > (16u << 20) ? total / 16 : 16u << 20;
    if (reserve > 64u << 20) reserve = 64u << 20;
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)(total - reserve));
    set(USER_CGROUP "/memory.max", text);
    int threads = 0;
    FILE *file = fopen("/proc/sys/kernel/threads-max", "re");
    if (file && fscanf(file, "%d", &threads) == 1) {
        snprintf(text, sizeof text, "%d", threads - threads / 4);
        set(USER_CGROUP "/pids.max", text);
    }
    if (file) fclose(file);
}

void system_configure(void) {
    set_hostname();
    set_machine_id();
    network_configure();
    // Background compaction dirties pages for nothing, and every dirty page is part of the next snapshot.
    set("/proc/sys/vm/compaction_proactiveness", "0");
    make_user_cgroup();
}
