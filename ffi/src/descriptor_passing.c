// Descriptors over unix sockets.
#include "descriptor_passing.h"
#include "export.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
    char bytes[CMSG_SPACE(sizeof(int) * TORPOR_MAX_PASSED_DESCRIPTORS)];
    struct cmsghdr align;
};

TORPOR_EXPORT int torpor_send_descriptors(int socket, const void *data, uint64_t length, const int *descriptors,
                                          uint32_t count) {
    if (!length || count > TORPOR_MAX_PASSED_DESCRIPTORS)
        return -EINVAL;
    union control control = {0};
    struct iovec vector = {.iov_base = (void *)data, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(rights), descriptors, sizeof(int) * count);
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return -errno;
    return (uint64_t)sent == length ? 0 : -EMSGSIZE;
}

static int wait_readable(int socket, int timeout_ms) {
    struct pollfd wanted = {.fd = socket, .events = POLLIN};
    int ready;
    do
        ready = poll(&wanted, 1, timeout_ms);
    while (ready < 0 && errno == EINTR);
    if (ready < 0)
        return -errno;
    return ready ? 0 : -ETIMEDOUT;
}

static void collect(struct msghdr *message, int *descriptors, uint32_t *count) {
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        const uint32_t received = (uint32_t)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(descriptors + *count, CMSG_DATA(part), received * sizeof(int));
        *count += received;
    }
}

TORPOR_EXPORT int64_t torpor_receive_descriptors(int socket, void *data, uint64_t capacity, int *descriptors, uint32_t *count,
                                                 int timeout_ms, int peek) {
    *count = 0;
    const int waited = wait_readable(socket, timeout_ms);
    if (waited)
        return waited;
    union control control = {0};
    struct iovec vector = {.iov_base = data, .iov_len = capacity};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t received;
    do
        received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (peek ? MSG_PEEK : 0));
    while (received < 0 && errno == EINTR);
    if (received < 0)
        return -errno;
    collect(&message, descriptors, count);
    if (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) {
        for (uint32_t i = 0; i < *count; i++)
            close(descriptors[i]);
        *count = 0;
        return -EMSGSIZE;
    }
    return received;
}
