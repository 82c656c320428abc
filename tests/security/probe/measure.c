/* How fast a network is (tests/bench/network). */
#define _GNU_SOURCE
#include "probe.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK_BYTES = 65536, MAX_ROUNDS = 10000, REQUEST_BYTES = 8192 };

static int64_t now_ns(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int open_connection(char **arguments) {
	struct endpoint to = endpoint_of(arguments[0], arguments[1]);
	int fd = socket(to.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to.address, to.length) != 0) die("connect");
	int yes = 1;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0) die("TCP_NODELAY");
	return fd;
}

static int measure_stream(char **arguments, bool sends) {
	static char chunk[CHUNK_BYTES];
	int fd = open_connection(arguments);
	int64_t begin = now_ns(), end = begin + atoi(arguments[2]) * INT64_C(1000000);
	int64_t bytes = 0, last = begin;
	while (last < end) {
		ssize_t count = sends ? send(fd, chunk, sizeof chunk, 0) : recv(fd, chunk, sizeof chunk, 0);
		if (count <= 0) die("stream");
		bytes += count;
		last = now_ns();
	}
	printf("%.0f\n", (double)bytes * 1e9 / (double)(last - begin));
	return 0;
}

int probe_send(char **arguments) {
	return measure_stream(arguments, true);
}

int probe_receive(char **arguments) {
	return measure_stream(arguments, false);
}

static int compare(const void *a, const void *b) {
	int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
	return left < right ? -1 : left > right;
}

int probe_rounds(char **arguments) {
	static int64_t times[MAX_ROUNDS];
	int fd = open_connection(arguments);
	int count = atoi(arguments[2]) < MAX_ROUNDS ? atoi(arguments[2]) : MAX_ROUNDS;
	for (int i = 0; i < count; i++) {
		char byte = '.';
		int64_t begin = now_ns();
		if (send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1) die("round");
		times[i] = now_ns() - begin;
	}
	qsort(times, (size_t)count, sizeof *times, compare);
	printf("%.1f %.1f\n", (double)times[count / 2] / 1000, (double)times[count * 99 / 100] / 1000);
	return 0;
}

int probe_fetch(char **arguments) {
	static const char request[] = "GET / HTTP/1.1\r\nHost: guest\r\n\r\n";
	static int64_t times[MAX_ROUNDS];
	int fd = open_connection(arguments);
	int count = atoi(arguments[2]) < MAX_ROUNDS ? atoi(arguments[2]) : MAX_ROUNDS;
	for (int i = 0; i < count; i++) {
		char reply[REQUEST_BYTES];
		size_t have = 0;
		int64_t begin = now_ns();
		if (send(fd, request, sizeof request - 1, 0) != sizeof request - 1) die("send");
		/* One byte behind the head: what `probe web PORT 1` answers. */
		for (const char *end = NULL; !end || !end[4];) {
			ssize_t some = recv(fd, reply + have, sizeof reply - 1 - have, 0);
			if (some <= 0) die("recv");
			have += (size_t)some;
			memset(reply + have, 0, 1);
			end = strstr(reply, "\r\n\r\n");
		}
		times[i] = now_ns() - begin;
	}
	qsort(times, (size_t)count, sizeof *times, compare);
	printf("%.1f %.1f\n", (double)times[count / 2] / 1000, (double)times[count * 99 / 100] / 1000);
	return 0;
}

static bool write_all(int fd, const char *bytes, size_t length) {
	while (length > 0) {
		ssize_t count = send(fd, bytes, length, 0);
		if (count <= 0) return false;
		bytes += count;
		length -= (size_t)count;
	}
	return true;
}

static void answer(int peer, size_t bytes) {
	static char chunk[CHUNK_BYTES];
	memset(chunk, 'x', sizeof chunk);
	char request[REQUEST_BYTES];
	size_t have = 0;
	int yes = 1;
	if (setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0) return;
	for (;;) {
		ssize_t count = recv(peer, request + have, sizeof request - 1 - have, 0);
		if (count <= 0) return;
		have += (size_t)count;
		request[have] = '\0';
		if (!strstr(request, "\r\n\r\n")) continue;
		have = 0;
		int length = snprintf(request, sizeof request, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", bytes);
		if (!write_all(peer, request, (size_t)length)) return;
		for (size_t left = bytes; left > 0;) {
			size_t some = left < sizeof chunk ? left : sizeof chunk;
			if (!write_all(peer, chunk, some)) return;
			left -= some;
		}
	}
}

int probe_web(char **arguments) {
	int listener = listen_at(arguments[0]);
	for (;;) {
		int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (peer < 0) die("accept");
		if (fork() == 0) {
			answer(peer, (size_t)atol(arguments[1]));
			_exit(0);
		}
		close(peer);
	}
}
