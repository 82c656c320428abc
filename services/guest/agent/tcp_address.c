#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

#include "tcp.h"

// More than a guest has; what a guest's root adds beyond them is not tried.
enum { MAX_INTERFACE_ADDRESSES = 8 };

static void set_address4(struct tcp_address *address, struct in_addr where, uint16_t port) {
    struct sockaddr_in *inet = (struct sockaddr_in *)&address->storage;
    *address = (struct tcp_address){.length = sizeof *inet};
    *inet = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = where};
}

static void set_address6(struct tcp_address *address, const struct in6_addr *where, uint16_t port) {
    struct sockaddr_in6 *inet = (struct sockaddr_in6 *)&address->storage;
    *address = (struct tcp_address){.length = sizeof *inet};
    *inet = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = *where};
}

static bool set_interface_address(const struct ifaddrs *entry, uint16_t port, struct tcp_address *address) {
    if (!entry->ifa_addr || !(entry->ifa_flags & IFF_UP) || (entry->ifa_flags & IFF_LOOPBACK)) return false;
    if (entry->ifa_addr->sa_family == AF_INET) {
        struct sockaddr_in inet;
        memcpy(&inet, entry->ifa_addr, sizeof inet);
        set_address4(address, inet.sin_addr, port);
        return true;
    }
    if (entry->ifa_addr->sa_family != AF_INET6) return false;
    struct sockaddr_in6 inet;
    memcpy(&inet, entry->ifa_addr, sizeof inet);
    // It would need the interface as well, and servers do not listen there only.
    if (IN6_IS_ADDR_LINKLOCAL(&inet.sin6_addr)) return false;
    set_address6(address, &inet.sin6_addr, port);
    return true;
}

static bool interface_address(unsigned index, uint16_t port, struct tcp_address *address) {
    if (index >= MAX_INTERFACE_ADDRESSES) return false;
    struct ifaddrs *list;
    if (getifaddrs(&list)) return false;
    bool found = false;
    for (struct ifaddrs *entry = list; entry && !found; entry = entry->ifa_next) {
        if (set_interface_address(entry, port, address)) found = index-- == 0;
    }
    freeifaddrs(list);
    return found;
}

bool tcp_own_address(unsigned index, uint16_t port, struct tcp_address *address) {
    if (index == 0) {
        set_address4(address, (struct in_addr){htonl(INADDR_LOOPBACK)}, port);
        return true;
    }
    if (index == 1) {
        set_address6(address, &in6addr_loopback, port);
        return true;
    }
    return interface_address(index - 2, port, address);
}
