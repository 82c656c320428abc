#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "agent.h"
#include "platform.h"

static struct agent agent;

int main(int argc, char **argv) {
    agent_initialize(&agent, platform_open_port(argc, argv));
    agent_run(&agent);
    return 0;
}
