/* Ethernet frames as root can make them. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

enum { FRAME_BYTES = 2048 };

static int packet_socket(const char *device, struct sockaddr_ll *at) {
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ARP));
	if (fd < 0) die("AF_PACKET");
	*at = (struct sockaddr_ll){
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ARP),
		.sll_ifindex = (int)if_nametoindex(device),
	};
	if (at->sll_ifindex == 0) die(device);
	if (bind(fd, (struct sockaddr *)at, sizeof *at) != 0) die("bind");
	return fd;
}

int probe_frame(char **arguments) {
	struct sockaddr_ll at;
	int fd = packet_socket(arguments[0], &at);
	uint8_t frame[FRAME_BYTES];
	size_t length = strlen(arguments[2]) / 2;
	if (length > sizeof frame) return 2;
	for (size_t i = 0; i < length; i++) {
		unsigned byte;
		if (sscanf(arguments[2] + 2 * i, "%2x", &byte) != 1) return 2;
		frame[i] = (uint8_t)byte;
	}
	for (int i = 0; i < atoi(arguments[1]); i++) {
		if (send(fd, frame, length, 0) < 0) die("send");
	}
	return puts("sent"), 0;
}

static void own_addresses(int fd, const char *device, uint8_t *mac, uint8_t *address) {
	struct ifreq request = {0};
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
	if (ioctl(fd, SIOCGIFHWADDR, &request) != 0) die("SIOCGIFHWADDR");
	memcpy(mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
	int inet = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (inet < 0 || ioctl(inet, SIOCGIFADDR, &request) != 0) die("SIOCGIFADDR");
	memcpy(address, &((struct sockaddr_in *)&request.ifr_addr)->sin_addr, 4);
}

int probe_arp(char **arguments) {
	struct sockaddr_ll at;
	int fd = packet_socket(arguments[0], &at);
	struct {
		struct ether_header ethernet;
		struct ether_arp arp;
	} __attribute__((packed)) frame = {0};
	memset(frame.ethernet.ether_dhost, 0xff, ETH_ALEN);
	frame.ethernet.ether_type = htons(ETHERTYPE_ARP);
	frame.arp.ea_hdr = (struct arphdr){
		.ar_hrd = htons(ARPHRD_ETHER),
		.ar_pro = htons(ETHERTYPE_IP),
		.ar_hln = ETH_ALEN,
		.ar_pln = 4,
		.ar_op = htons(ARPOP_REQUEST),
	};
	own_addresses(fd, arguments[0], frame.arp.arp_sha, frame.arp.arp_spa);
	memcpy(frame.ethernet.ether_shost, frame.arp.arp_sha, ETH_ALEN);
	if (inet_pton(AF_INET, arguments[1], frame.arp.arp_tpa) != 1) return 2;
	uint8_t wanted[4];
	memcpy(wanted, frame.arp.arp_tpa, sizeof wanted);
	if (send(fd, &frame, sizeof frame, 0) < 0) die("send");
	time_t deadline = time(NULL) + 1 + atoi(arguments[2]) / 1000;
	while (time(NULL) <= deadline && wait_for(fd, POLLIN, atoi(arguments[2]))) {
		if (recv(fd, &frame, sizeof frame, 0) != sizeof frame) continue;
		if (frame.arp.ea_hdr.ar_op != htons(ARPOP_REPLY) || memcmp(frame.arp.arp_spa, wanted, 4) != 0) continue;
		for (int i = 0; i < ETH_ALEN; i++) printf("%s%02x", i == 0 ? "" : ":", frame.arp.arp_sha[i]);
		return puts(""), 0;
	}
	return puts("silent"), 0;
}
