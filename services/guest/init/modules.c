#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "init.h"

#define MODULES_DIRECTORY "/modules"

static void load_module(const char *name) {
    char path[256];
    snprintf(path, sizeof path, MODULES_DIRECTORY "/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)) {
        printf("torpor-init: module %s: %s\n", name, strerror(errno));
    }
    if (fd >= 0) close(fd);
    // The initramfs is memory: what has been loaded is freed.
    unlink(path);
}

void modules_load(void) {
    FILE *list = fopen(MODULES_DIRECTORY "/order", "re");
    if (!list) give_up("list of modules", errno);
    char name[128];
    while (fgets(name, sizeof name, list)) {
        name[strcspn(name, "\n")] = 0;
        if (*name) load_module(name);
    }
    fclose(list);
    unlink(MODULES_DIRECTORY "/order");
    rmdir(MODULES_DIRECTORY);
}
