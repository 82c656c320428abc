#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init.h"

// The same in each sandbox, so that a snapshot fits every slot of every host (services/hostagent/network/types.ts).
#define DEVICE "eth0"
#define ADDRESS "10.249.0.2"
#define NETMASK "255.255.255.252"
#define GATEWAY "10.249.0.1"
#define ADDRESS6 "fd74:7270::2"
enum { PREFIX6 = 64 };

// As <linux/ipv6.h> has it, which does not go together with <arpa/inet.h>.
struct in6_request {
    struct in6_addr address;
    uint32_t prefix;
    int index;
};

static void complain(const char *what) { printf("torpor-init: network: %s: %s\n", what, strerror(errno)); }

static struct sockaddr internet(const char *text) {
    union {
        struct sockaddr_in internet;
        struct sockaddr any;
    } address = {.internet = {.sin_family = AF_INET}};
    inet_pton(AF_INET, text, &address.internet.sin_addr);
    return address.any;
}

static void bring_up(int fd, const char *device) {
    struct ifreq request = {0};
    strcpy(request.ifr_name, device);
    if (ioctl(fd, SIOCGIFFLAGS, &request)) return complain(device);
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    if (ioctl(fd, SIOCSIFFLAGS, &request)) complain(device);
}

static void set_address(int fd, unsigned long what, const char *address) {
    struct ifreq request = {.ifr_name = DEVICE, .ifr_addr = internet(address)};
    if (ioctl(fd, what, &request)) complain(address);
}

static void add_default_route(int fd) {
    struct rtentry route = {
        .rt_dst = internet("0.0.0.0"),
        .rt_genmask = internet("0.0.0.0"),
        .rt_gateway = internet(GATEWAY),
        .rt_flags = RTF_UP | RTF_GATEWAY,
    };
    if (ioctl(fd, SIOCADDRT, &route)) complain("default route");
}

static void add_address6(unsigned index) {
    struct in6_request request = {.prefix = PREFIX6, .index = (int)index};
    inet_pton(AF_INET6, ADDRESS6, &request.address);
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFADDR, &request)) complain(ADDRESS6);
    if (fd >= 0) close(fd);
}

static void set_rules(void) {
    // On a host without network the link is down: who connects is told at once that there is no way.
    set("/proc/sys/net/ipv4/conf/all/ignore_routes_with_linkdown", "1");
    // The address is known to be free, and nobody announces routes: neither is waited for.
    set("/proc/sys/net/ipv6/conf/" DEVICE "/accept_dad", "0");
    set("/proc/sys/net/ipv6/conf/" DEVICE "/accept_ra", "0");
}

// The base image has an empty one. What somebody has written there stays.
static void name_resolver(void) {
    static const char line[] = "nameserver " GATEWAY "\n";
    struct stat status;
    if (stat("/etc/resolv.conf", &status) == 0 && status.st_size > 0) return;
    int fd = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, line, sizeof line - 1) != (ssize_t)(sizeof line - 1)) complain("/etc/resolv.conf");
    if (fd >= 0) close(fd);
}

void network_configure(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return complain("socket");
    bring_up(fd, "lo");
    const unsigned index = if_nametoindex(DEVICE);
    if (index) {
        set_rules();
        set_address(fd, SIOCSIFADDR, ADDRESS);
        set_address(fd, SIOCSIFNETMASK, NETMASK);
        bring_up(fd, DEVICE);
        add_default_route(fd);
        add_address6(index);
        name_resolver();
    }
    close(fd);
}
