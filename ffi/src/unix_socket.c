// Unix sockets.
#include "torpor.h"

#include "export.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

TORPOR_EXPORT int torpor_socket_pair(int *pair) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) ? -errno : 0;
}

// A socket, and the address that `path` is.
static int open_for(const char *path, struct sockaddr_un *address) {
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    const size_t length = strlen(path);
    if (length >= sizeof address->sun_path)
        return -ENAMETOOLONG;
    memcpy(address->sun_path, path, length);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

TORPOR_EXPORT int torpor_unix_connect(const char *path) {
    struct sockaddr_un address;
    const int fd = open_for(path, &address);
    if (fd < 0)
        return fd;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address)) {
        const int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

TORPOR_EXPORT int torpor_unix_listen(const char *path, int backlog) {
    struct sockaddr_un address;
    const int fd = open_for(path, &address);
    if (fd < 0)
        return fd;
    // The name appears with the mode that the socket has.
    if (fchmod(fd, 0600) || (unlink(path) && errno != ENOENT) || bind(fd, (const struct sockaddr *)&address, sizeof address) ||
        listen(fd, backlog)) {
        const int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}
