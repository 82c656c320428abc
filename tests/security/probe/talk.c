/* Connections and datagrams as programs make them. */
#define _GNU_SOURCE
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* So many connections at once. */
enum { SCAN_WIDTH = 4096, REPLY_BYTES = 4096 };

static int begin_connect(const struct endpoint *to) {
	int fd = socket(to->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) die("socket");
	if (connect(fd, (const struct sockaddr *)&to->address, to->length) == 0) errno = 0;
	return fd;
}

static int error_of(int fd) {
	int error = 0;
	socklen_t length = sizeof error;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) die("getsockopt");
	return error;
}

/* 0, or the error. */
static int finish_connect(int fd, int begun, int timeout_ms) {
	if (begun != EINPROGRESS) return begun;
	return wait_for(fd, POLLOUT, timeout_ms) ? error_of(fd) : ETIMEDOUT;
}

int probe_connect(char **arguments) {
	struct endpoint to = endpoint_of(arguments[0], arguments[1]);
	int timeout_ms = atoi(arguments[2]);
	int fd = begin_connect(&to);
	int error = finish_connect(fd, errno, timeout_ms);
	puts(word_of(error));
	if (error != 0 || arguments[3][0] == '\0') return 0;
	if (send(fd, arguments[3], strlen(arguments[3]), 0) < 0) return puts(word_of(errno)), 0;
	char reply[REPLY_BYTES];
	for (;;) {
		if (!wait_for(fd, POLLIN, timeout_ms)) return puts("silent"), 0;
		ssize_t length = recv(fd, reply, sizeof reply, 0);
		if (length < 0) return puts(word_of(errno)), 0;
		if (length == 0) return 0;
		fwrite(reply, 1, (size_t)length, stdout);
	}
}

int probe_udp(char **arguments) {
	struct endpoint to = endpoint_of(arguments[0], arguments[1]);
	uint8_t message[REPLY_BYTES];
	size_t length = strlen(arguments[3]) / 2;
	for (size_t i = 0; i < length && i < sizeof message; i++) {
		unsigned byte;
		if (sscanf(arguments[3] + 2 * i, "%2x", &byte) != 1) return 2;
		message[i] = (uint8_t)byte;
	}
	int fd = socket(to.address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) die("socket");
	int yes = 1;
	if (setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &yes, sizeof yes) != 0) die("SO_BROADCAST");
	if (connect(fd, (struct sockaddr *)&to.address, to.length) != 0) return puts(word_of(errno)), 0;
	if (send(fd, message, length, 0) < 0) return puts(word_of(errno)), 0;
	if (!wait_for(fd, POLLIN, atoi(arguments[2]))) return puts("silent"), 0;
	ssize_t received = recv(fd, message, sizeof message, 0);
	if (received < 0) return puts(word_of(errno)), 0;
	puts("answered");
	for (ssize_t i = 0; i < received; i++) printf("%02x", message[i]);
	return puts(""), 0;
}

static uint16_t checksum(const void *data, size_t length) {
	const uint8_t *bytes = data;
	uint32_t sum = 0;
	for (size_t i = 0; i + 1 < length; i += 2) {
		uint16_t word;
		memcpy(&word, bytes + i, sizeof word);
		sum += word;
	}
	while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

int probe_ping(char **arguments) {
	struct endpoint to = endpoint_of(arguments[0], "0");
	bool v6 = to.address.ss_family == AF_INET6;
	int fd = socket(to.address.ss_family, SOCK_RAW | SOCK_CLOEXEC, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	if (fd < 0) die("socket");
	uint16_t id = htons((uint16_t)getpid());
	struct icmphdr echo = {.type = v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO, .un.echo.id = id};
	/* For ICMPv6 the kernel makes it. */
	if (!v6) echo.checksum = checksum(&echo, sizeof echo);
	if (sendto(fd, &echo, sizeof echo, 0, (struct sockaddr *)&to.address, to.length) < 0) {
		return puts(word_of(errno)), 0;
	}
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	int64_t deadline = now.tv_sec * 1000 + now.tv_nsec / 1000000 + atoi(arguments[1]);
	for (;;) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		int64_t left = deadline - (now.tv_sec * 1000 + now.tv_nsec / 1000000);
		if (left <= 0 || !wait_for(fd, POLLIN, (int)left)) return puts("silent"), 0;
		uint8_t packet[REPLY_BYTES];
		ssize_t length = recv(fd, packet, sizeof packet, 0);
		if (length < 0) return puts(word_of(errno)), 0;
		/* A raw socket sees each ICMP message, IPv4 ones with their header: only the reply to this echo counts. */
		size_t skip = v6 ? 0 : (size_t)(packet[0] & 15) * 4;
		struct icmphdr reply;
		if ((size_t)length < skip + sizeof reply) continue;
		memcpy(&reply, packet + skip, sizeof reply);
		if (reply.type == (v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY) && reply.un.echo.id == id) return puts("answered"), 0;
	}
}

static void scan_some(const char *address, int first, int last, int timeout_ms) {
	static struct pollfd entries[SCAN_WIDTH];
	int count = last - first + 1;
	for (int i = 0; i < count; i++) {
		char port[8];
		snprintf(port, sizeof port, "%d", first + i);
		struct endpoint to = endpoint_of(address, port);
		entries[i] = (struct pollfd){.fd = begin_connect(&to), .events = POLLOUT};
	}
	int left = timeout_ms;
	while (left > 0) {
		usleep(20 * 1000);
		left -= 20;
		int pending = 0;
		if (poll(entries, (nfds_t)count, 0) < 0) die("poll");
		for (int i = 0; i < count; i++) pending += entries[i].revents == 0;
		if (pending == 0) break;
	}
	for (int i = 0; i < count; i++) {
		int error = entries[i].revents == 0 ? ETIMEDOUT : error_of(entries[i].fd);
		if (error == 0 || error == ECONNREFUSED) printf("%d %s\n", first + i, word_of(error));
		close(entries[i].fd);
	}
}

int probe_scan(char **arguments) {
	int last = atoi(arguments[2]);
	struct rlimit files = {SCAN_WIDTH + 16, SCAN_WIDTH + 16};
	if (setrlimit(RLIMIT_NOFILE, &files) != 0) die("setrlimit");
	for (int first = atoi(arguments[1]); first <= last; first += SCAN_WIDTH) {
		int end = first + SCAN_WIDTH - 1;
		scan_some(arguments[0], first, end < last ? end : last, atoi(arguments[3]));
	}
	return puts("scanned"), 0;
}

int probe_flow(char **arguments) {
	struct endpoint to = endpoint_of(arguments[0], arguments[1]);
	int fd = begin_connect(&to);
	int error = finish_connect(fd, errno, 5000);
	puts(word_of(error));
	if (error != 0) return 0;
	for (;;) {
		char byte = '.';
		if (send(fd, &byte, 1, 0) < 0 && errno != EAGAIN) return puts(word_of(errno)), 0;
		usleep(100 * 1000);
		while (recv(fd, &byte, 1, 0) == 1) puts("echo");
		if (errno != EAGAIN) return puts("closed"), 0;
	}
}

int listen_at(const char *port) {
	struct endpoint at = endpoint_of("::", port);
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&at.address, at.length) != 0) die("bind");
	if (listen(listener, 64) != 0) die("listen");
	puts("listening");
	return listener;
}

int probe_serve(char **arguments) {
	int listener = listen_at(arguments[0]);
	for (;;) {
		int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (peer < 0) die("accept");
		puts("connection");
		if (send(peer, "hello\n", 6, 0) < 0) puts(word_of(errno));
		close(peer);
	}
}

int probe_vsock(char **arguments) {
	int last = atoi(arguments[2]);
	for (int port = atoi(arguments[1]); port <= last; port++) {
		int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0) return puts("none"), 0;
		struct sockaddr_vm to = {
			.svm_family = AF_VSOCK,
			.svm_cid = (unsigned)atoi(arguments[0]),
			.svm_port = (unsigned)port,
		};
		int begun = connect(fd, (struct sockaddr *)&to, sizeof to) == 0 ? 0 : errno;
		if (finish_connect(fd, begun, 50) == 0) printf("%d open\n", port);
		close(fd);
	}
	return puts("scanned"), 0;
}
