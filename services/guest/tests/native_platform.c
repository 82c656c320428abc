// The agent as a program of the machine under test: it speaks on an inherited descriptor (argv[1] is its number) or
// connects to a unix socket (argv[1] is its path), and leaves the machine's clock and entropy pool alone.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform.h"

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) ? -1 : fd;
}

int platform_open_port(int argc, char **argv) {
    const char *port = argc > 1 ? argv[1] : "0";
    int fd = *port == '/' ? connect_to(port) : atoi(port);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        perror("torpor-agent-test: port");
        exit(2);
    }
    return fd;
}

bool platform_port_survives_hangup(void) { return false; }

pid_t platform_fork_user_process(void) { return fork(); }

int platform_set_realtime(int64_t unix_ns) { return unix_ns > 0 ? 0 : EINVAL; }

int platform_add_entropy(const uint8_t *bytes, uint32_t length) {
    (void)bytes, (void)length;
    return 0;
}
