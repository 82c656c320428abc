/* What an intruder tries from inside of a guest. Each command prints one word or a few lines about what came of it. */
#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>
#include <sys/socket.h>

/* A socket address of either family. */
struct endpoint {
	struct sockaddr_storage address;
	socklen_t length;
};

/* Exits with 2 unless `address` is a numeric IPv4 or IPv6 address; `address%device` for link-local ones. */
struct endpoint endpoint_of(const char *address, const char *port);

/* Exits with 2 and the reason of the last system call. */
_Noreturn void die(const char *what);

/* Waits for `events` of poll. False: `timeout_ms` have passed. */
bool wait_for(int fd, short events, int timeout_ms);

/* A TCP listener at all addresses; says so. Exits with 2 when there can be none. */
int listen_at(const char *port);

/* One word for an error of connect, send or recv. */
const char *word_of(int error);

int probe_connect(char **arguments);
int probe_udp(char **arguments);
int probe_ping(char **arguments);
int probe_scan(char **arguments);
int probe_flow(char **arguments);
int probe_vsock(char **arguments);
int probe_serve(char **arguments);
int probe_garbage(char **arguments);
int probe_frame(char **arguments);
int probe_arp(char **arguments);
int probe_fork(char **arguments);
int probe_memory(char **arguments);
int probe_flood(char **arguments);
int probe_crowd(char **arguments);
int probe_send(char **arguments);
int probe_receive(char **arguments);
int probe_rounds(char **arguments);
int probe_fetch(char **arguments);
int probe_web(char **arguments);

#endif
