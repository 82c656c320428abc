// Streams that are TCP connections to ports of the guest.
#ifndef TORPOR_TCP_H
#define TORPOR_TCP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "agent.h"

// Begins to connect; takes over the stream.
void tcp_connect(struct agent *agent, struct stream *stream, const Guest__V1__ConnectPort *request);

struct tcp_address {
    struct sockaddr_storage storage;
    socklen_t length;
};

// The `index`th address where a program of this guest may listen: 127.0.0.1, ::1, then the interfaces' own. All of them are
// this machine's, so a connection to them never leaves it. false: there are no more.
bool tcp_own_address(unsigned index, uint16_t port, struct tcp_address *address);

#endif
