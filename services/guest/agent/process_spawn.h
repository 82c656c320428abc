#ifndef TORPOR_PROCESS_SPAWN_H
#define TORPOR_PROCESS_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest.pb-c.h"
#include "bounds.h"

enum spawn_step {
    SPAWN_USER,
    SPAWN_PRIVILEGES,
    SPAWN_WORKING_DIRECTORY,
    SPAWN_EXEC,
    // Not a failure: carries the directory that was entered.
    SPAWN_ENTERED,
};

// What the child writes into the report pipe; the pipe closes without a failure when exec succeeds. At most PIPE_BUF.
struct spawn_report {
    int32_t step;
    int32_t errno_value;
    char working_directory[1024];
};

struct spawned {
    pid_t pid;
    int report_fd, stdin_fd, stdout_fd, stderr_fd;
};

// Forks and execs the request as its user in a new session. The parent's ends are non-blocking and close-on-exec;
// stdin_fd is -1 when no stdin was asked for. 0, or an errno (nothing is left open).
int process_spawn(const Guest__V1__StartProcess *request, struct spawned *spawned);

const char *spawn_step_name(int32_t step);

#endif
