// Tap devices, also in another network namespace.
#include "torpor.h"

#include "export.h"
#include "network_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

// struct virtio_net_hdr_mrg_rxbuf: what virtio-net 1.0 devices prepend to each packet.
#define VNET_HEADER_BYTES 12

static int open_here(void *argument) {
    const char *name = argument;
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

TORPOR_EXPORT int torpor_open_tap(const char *name, const char *namespace_path) {
    return in_network_namespace(namespace_path, open_here, (void *)(unsigned long)name);
}
