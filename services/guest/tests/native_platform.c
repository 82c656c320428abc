// The agent as a program of the host under test: it speaks on an inherited descriptor (argv[1]) and leaves the
// machine's clock and entropy pool alone.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "platform.h"

int platform_open_port(int argc, char **argv) {
    int fd = argc > 1 ? atoi(argv[1]) : 0;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        perror("torpor-agent-test: port");
        exit(2);
    }
    return fd;
}

bool platform_port_survives_hangup(void) { return false; }

void platform_leave_protection(void) {}

int platform_set_realtime(int64_t unix_ns) { return unix_ns > 0 ? 0 : EINVAL; }

int platform_add_entropy(const uint8_t *bytes, uint32_t length) {
    (void)bytes, (void)length;
    return 0;
}
