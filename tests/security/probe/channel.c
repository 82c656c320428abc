/* What root in the guest can do to the host agent: write to the port of the guest's agent whatever it likes. */
#define _GNU_SOURCE
#include "probe.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PATTERN_BYTES = 65536, MAX_DESCRIPTORS = 1024, WRITE_TIMEOUT_MS = 2000 };

/* The agent has the port open, and nobody else can open it: its descriptor is taken instead. -1: it has none. */
static int take_port(int pidfd, const char *pid) {
	for (int number = 0; number < MAX_DESCRIPTORS; number++) {
		char path[64], target[64];
		snprintf(path, sizeof path, "/proc/%s/fd/%d", pid, number);
		ssize_t length = readlink(path, target, sizeof target - 1);
		if (length < 0) continue;
		target[length] = '\0';
		if (strstr(target, "vport")) return (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
	}
	return -1;
}

int probe_garbage(char **arguments) {
	static uint8_t pattern[PATTERN_BYTES];
	size_t length = strlen(arguments[2]) / 2;
	if (length > sizeof pattern) return 2;
	for (size_t i = 0; i < length; i++) {
		unsigned byte;
		if (sscanf(arguments[2] + 2 * i, "%2x", &byte) != 1) return 2;
		pattern[i] = (uint8_t)byte;
	}
	int pidfd = (int)syscall(SYS_pidfd_open, atoi(arguments[0]), 0);
	if (pidfd < 0) die("pidfd_open");
	int port = take_port(pidfd, arguments[0]);
	if (port < 0) die("the agent's port");
	size_t written = 0;
	for (int i = 0; i < atoi(arguments[1]); i++) {
		if (!wait_for(port, POLLOUT, WRITE_TIMEOUT_MS)) break;
		ssize_t count = write(port, pattern, length);
		if (count < 0 && errno != EAGAIN) break;
		if (count > 0) written += (size_t)count;
	}
	printf("%zu\n", written);
	return 0;
}
