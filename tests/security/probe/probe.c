#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command {
	const char *name;
	int arguments;
	int (*run)(char **arguments);
	const char *usage;
} commands[] = {
	{"connect", 4, probe_connect, "ADDRESS PORT TIMEOUT_MS TEXT    TCP; sends TEXT, prints the state and what came back"},
	{"udp", 4, probe_udp, "ADDRESS PORT TIMEOUT_MS HEX    one datagram; prints the answer as hex"},
	{"ping", 2, probe_ping, "ADDRESS TIMEOUT_MS    ICMP echo"},
	{"scan", 4, probe_scan, "ADDRESS FIRST LAST TIMEOUT_MS    TCP ports that are open or refuse"},
	{"flow", 2, probe_flow, "ADDRESS PORT    a line to an echo server every 100 ms; prints one for each that came back"},
	{"vsock", 3, probe_vsock, "CID FIRST LAST    ports of an AF_VSOCK peer that are open"},
	{"serve", 1, probe_serve, "PORT    accepts TCP connections, greets and closes them; prints one line for each"},
	{"garbage", 3, probe_garbage, "PID COUNT HEX    into the port of the guest's agent, which has this pid"},
	{"frame", 3, probe_frame, "DEVICE COUNT HEX    sends an Ethernet frame as it is"},
	{"arp", 3, probe_arp, "DEVICE ADDRESS TIMEOUT_MS    who has it; prints the MAC address"},
	{"fork", 1, probe_fork, "SECONDS    as many processes as there can be; prints how many there were"},
	{"memory", 1, probe_memory, "MIB    touches so much memory"},
	{"flood", 4, probe_flood, "ADDRESS PORT BYTES SECONDS    UDP datagrams as fast as they go; prints how many"},
	{"crowd", 4, probe_crowd, "ADDRESS PORT COUNT TIMEOUT_MS    TCP connections that stay open; prints how many are"},
	{"send", 3, probe_send, "ADDRESS PORT MS    TCP; prints bytes per second"},
	{"receive", 3, probe_receive, "ADDRESS PORT MS    TCP; prints bytes per second"},
	{"rounds", 3, probe_rounds, "ADDRESS PORT COUNT    bytes to an echo server and back; prints p50 and p99, microseconds"},
	{"fetch", 3, probe_fetch, "ADDRESS PORT COUNT    HTTP requests to `web` with one byte; prints p50 and p99, microseconds"},
	{"web", 2, probe_web, "PORT BYTES    answers each HTTP request with so many bytes"},
};

_Noreturn void die(const char *what) {
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

struct endpoint endpoint_of(const char *address, const char *port) {
	struct endpoint endpoint = {0};
	uint16_t number = htons((uint16_t)atoi(port));
	struct sockaddr_in *v4 = (struct sockaddr_in *)&endpoint.address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&endpoint.address;
	char text[INET6_ADDRSTRLEN + IF_NAMESIZE];
	snprintf(text, sizeof text, "%s", address);
	char *device = strchr(text, '%');
	if (device) *device++ = '\0';
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = number;
		endpoint.length = sizeof *v4;
	} else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = number;
		v6->sin6_scope_id = device ? if_nametoindex(device) : 0;
		endpoint.length = sizeof *v6;
	} else {
		fprintf(stderr, "not an address: %s\n", address);
		exit(2);
	}
	return endpoint;
}

bool wait_for(int fd, short events, int timeout_ms) {
	struct pollfd entry = {.fd = fd, .events = events};
	return poll(&entry, 1, timeout_ms) > 0;
}

const char *word_of(int error) {
	switch (error) {
	case 0:
		return "open";
	case ECONNREFUSED:
		return "refused";
	case ECONNRESET:
	case EPIPE:
		return "reset";
	case ETIMEDOUT:
	case EINPROGRESS:
	case EAGAIN:
		return "timeout";
	case EACCES:
	case EPERM:
		return "forbidden";
	default:
		return "unreachable";
	}
}

int main(int count, char **arguments) {
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; count >= 2 && i < sizeof commands / sizeof *commands; i++) {
		if (strcmp(arguments[1], commands[i].name) == 0 && count == commands[i].arguments + 2) {
			return commands[i].run(arguments + 2);
		}
	}
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		fprintf(stderr, "probe %s %s\n", commands[i].name, commands[i].usage);
	}
	return 2;
}
