// What the command lines of both pagers have in common.
#include "pager_arguments.h"

#include "kernel_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>

bool torpor_parse_number(const char *text, uint64_t *value) {
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno;
}

bool torpor_parse_descriptor(const char *text, int *fd) {
    uint64_t value;
    if (!torpor_parse_number(text, &value) || value > INT32_MAX || fcntl((int)value, F_GETFD) < 0)
        return false;
    *fd = (int)value;
    return true;
}

bool torpor_is_fault_around(uint64_t bytes) {
    return bytes >= TORPOR_PAGE_SIZE && bytes <= TORPOR_MAX_FAULT_AROUND && !(bytes & (bytes - 1));
}

int torpor_pager_open_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}
