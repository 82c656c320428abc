/* More than its share. */
#include "probe.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Doubles until nothing is left to double into; everybody ends at the same time. */
int probe_fork(char **arguments) {
	time_t end = time(NULL) + atoi(arguments[0]);
	pid_t self = getpid();
	_Atomic long *made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (made == MAP_FAILED) die("mmap");
	while (time(NULL) < end) {
		if (fork() == 0) ++*made;
	}
	if (getpid() != self) _exit(0);
	printf("%ld\n", *made);
	return 0;
}

int probe_memory(char **arguments) {
	size_t bytes = (size_t)atoi(arguments[0]) << 20;
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) die("mmap");
	for (size_t at = 0; at < bytes; at += 4096) memory[at] = (char)(at >> 12 | 1);
	return puts("touched"), 0;
}

int probe_flood(char **arguments) {
	struct endpoint to = endpoint_of(arguments[0], arguments[1]);
	static char message[65000];
	size_t length = (size_t)atoi(arguments[2]);
	int fd = socket(to.address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to.address, to.length) != 0) die("connect");
	time_t end = time(NULL) + atoi(arguments[3]);
	long sent = 0;
	while (time(NULL) < end) {
		if (send(fd, message, length < sizeof message ? length : sizeof message, 0) >= 0) sent++;
	}
	printf("%ld\n", sent);
	return 0;
}

int probe_crowd(char **arguments) {
	struct endpoint to = endpoint_of(arguments[0], arguments[1]);
	size_t count = (size_t)atoi(arguments[2]);
	struct rlimit files = {count + 64, count + 64};
	if (setrlimit(RLIMIT_NOFILE, &files) != 0) die("setrlimit");
	struct pollfd *entries = calloc(count, sizeof *entries);
	if (!entries) die("calloc");
	for (size_t i = 0; i < count; i++) {
		int fd = socket(to.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0) die("socket");
		/* Whether it is made is seen below. */
		(void)!connect(fd, (struct sockaddr *)&to.address, to.length);
		entries[i] = (struct pollfd){.fd = fd, .events = POLLOUT};
	}
	usleep((useconds_t)atoi(arguments[3]) * 1000);
	if (poll(entries, (nfds_t)count, 0) < 0) die("poll");
	size_t open = 0;
	for (size_t i = 0; i < count; i++) {
		int error = 1;
		socklen_t length = sizeof error;
		getsockopt(entries[i].fd, SOL_SOCKET, SO_ERROR, &error, &length);
		open += entries[i].revents & POLLOUT && error == 0;
	}
	printf("%zu\n", open);
	return 0;
}
