// Tap devices, also in another network namespace.
#include "torpor.h"

#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

// struct virtio_net_hdr_mrg_rxbuf: what virtio-net 1.0 devices prepend to each packet.
#define VNET_HEADER_BYTES 12

struct request {
    const char *name;
    const char *namespace_path;
    int result;
};

static int open_here(const char *name) {
    struct ifreq interface = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    if (!*name || strlen(name) >= sizeof interface.ifr_name)
        return -EINVAL;
    memcpy(interface.ifr_name, name, strlen(name));
    const int header = VNET_HEADER_BYTES;
    const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (ioctl(fd, TUNSETIFF, &interface) || ioctl(fd, TUNSETVNETHDRSZ, &header)) {
        const int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

static int enter(const char *namespace_path) {
    const int fd = open(namespace_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    const int error = setns(fd, CLONE_NEWNET) ? -errno : 0;
    close(fd);
    return error;
}

static void *open_there(void *argument) {
    struct request *request = argument;
    const int error = enter(request->namespace_path);
    request->result = error ? error : open_here(request->name);
    return NULL;
}

// A namespace belongs to a thread, so a thread that ends right after enters it: no thread of the caller's can be left in it.
TORPOR_EXPORT int torpor_open_tap(const char *name, const char *namespace_path) {
    if (!namespace_path)
        return open_here(name);
    struct request request = {name, namespace_path, 0};
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&thread, NULL, open_there, &request);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return -error;
    pthread_join(thread, NULL);
    return request.result;
}
