// From a process's pipes into its log.
#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "process.h"

static uint8_t read_buffer[MAX_DATA_BYTES];

void process_output_close(struct agent *agent, struct process_output *output) {
    if (output->fd < 0) return;
    agent_unwatch(agent, output->fd, &output->source);
    close(output->fd);
    output->fd = -1;
    output->left_at_exit = 0;
}

void process_output_begin_drain(struct process *process) {
    for (int i = 0; i < 2; i++) {
        struct process_output *output = &process->outputs[i];
        int waiting = 0;
        if (output->fd < 0) continue;
        // A background child may hold the pipe open and write for ever: only what is there now precedes the exit.
        output->left_at_exit = ioctl(output->fd, FIONREAD, &waiting) == 0 ? (uint64_t)waiting : 0;
        output->readable = true;
    }
}

bool process_output_drained(const struct process *process) {
    return process->outputs[0].left_at_exit == 0 && process->outputs[1].left_at_exit == 0;
}

static size_t log_limit(const struct agent *agent, const struct process *process) {
    uint64_t others = agent->log_bytes - process->log.capacity;
    uint64_t left = agent->log_budget > others ? agent->log_budget - others : 0;
    return left < OUTPUT_LOG_BYTES ? (size_t)left : OUTPUT_LOG_BYTES;
}

// Holding readers hold a process back before its log drops what the fastest of them has not seen; every other one gets a
// gap, so that it can't stall anybody.
static bool held_back(const struct process *process, size_t limit) {
    uint64_t lag = process_reader_held_lag(process);
    if (lag == 0) return false;
    size_t capacity = limit < OUTPUT_LOG_MINIMUM_BYTES ? OUTPUT_LOG_MINIMUM_BYTES : limit;
    return lag > OUTPUT_HOLD_BYTES || lag + MAX_DATA_BYTES + 16 > capacity;
}

static bool read_once(struct agent *agent, struct process_output *output) {
    struct process *process = output->process;
    size_t limit = log_limit(agent, process);
    if (output->fd < 0 || !output->readable || held_back(process, limit)) return false;
    ssize_t got = read(output->fd, read_buffer, sizeof read_buffer);
    if (got < 0 && errno == EINTR) return true;
    if (got < 0 && errno == EAGAIN) {
        output->readable = false;
        output->left_at_exit = 0;
        return false;
    }
    if (got <= 0) {
        process_output_close(agent, output);
        return true;
    }
    size_t before = process->log.capacity;
    // Out of memory: losing these bytes unnoticed would be worse than a process that sees its pipe break.
    if (!output_log_append(&process->log, output->stream, read_buffer, (uint32_t)got, limit)) {
        process_output_close(agent, output);
        return true;
    }
    agent->log_bytes += process->log.capacity - before;
    output->left_at_exit -= output->left_at_exit < (uint64_t)got ? output->left_at_exit : (uint64_t)got;
    return true;
}

bool process_output_read(struct agent *agent, struct process *process) {
    if (process->state == PROCESS_STARTING) return false;
    bool first = read_once(agent, &process->outputs[0]);
    bool second = read_once(agent, &process->outputs[1]);
    return first || second;
}
