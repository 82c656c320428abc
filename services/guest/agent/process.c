#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "process_spawn.h"

static struct process *process_of(struct event_source *source, size_t offset) {
    return (struct process *)((char *)source - offset);
}

static void output_ready(struct event_source *source, uint32_t events) {
    (void)events;
    ((struct process_output *)source)->readable = true;
}

static void input_ready(struct event_source *source, uint32_t events) {
    (void)events;
    process_of(source, offsetof(struct process, input_source))->input_writable = true;
}

static void report_ready(struct event_source *source, uint32_t events) {
    (void)events;
    process_of(source, offsetof(struct process, report_source))->report_readable = true;
}

struct process *process_find(struct agent *agent, uint32_t pid) {
    for (struct process *process = agent->processes; process; process = process->next) {
        if (process->pid == pid) return process;
    }
    return NULL;
}

static void close_report(struct agent *agent, struct process *process) {
    if (process->report_fd < 0) return;
    agent_unwatch(agent, process->report_fd, &process->report_source);
    close(process->report_fd);
    process->report_fd = -1;
}

static void process_free(struct agent *agent, struct process *process) {
    for (struct process **link = &agent->processes; *link; link = &(*link)->next) {
        if (*link != process) continue;
        *link = process->next;
        break;
    }
    close_report(agent, process);
    process_input_close(agent, process);
    for (int i = 0; i < 2; i++) process_output_close(agent, &process->outputs[i]);
    agent->log_bytes -= process->log.capacity;
    output_log_free(&process->log);
    for (size_t i = 0; i < process->argc; i++) free(process->argv[i]);
    free(process->argv);
    free(process->user);
    free(process->working_directory);
    if (process->state == PROCESS_EXITED) agent->finished_count--;
    agent->process_count--;
    free(process);
}

// The oldest finished process that nobody reads; one whose pipes have closed is preferred, for closing a pipe would
// kill a background child of it that still writes. Processes are listed newest first.
static struct process *find_evictable(struct agent *agent) {
    struct process *oldest = NULL, *oldest_closed = NULL;
    for (struct process *process = agent->processes; process; process = process->next) {
        if (process->state != PROCESS_EXITED || process->readers) continue;
        oldest = process;
        if (process->outputs[0].fd < 0 && process->outputs[1].fd < 0) oldest_closed = process;
    }
    return oldest_closed ? oldest_closed : oldest;
}

static void evict_finished(struct agent *agent) {
    while (agent->finished_count > MAX_FINISHED_PROCESSES || agent->process_count >= MAX_PROCESSES ||
           agent->log_bytes > agent->log_budget) {
        struct process *process = find_evictable(agent);
        if (!process) return;
        process_free(agent, process);
    }
}

// Keeps what ListProcesses tells, within PROCESS_INFO_ARGUMENT_BYTES.
static bool copy_description(struct process *process, const Guest__V1__StartProcess *request) {
    size_t bytes = 0;
    process->argv = calloc(request->n_argv, sizeof *process->argv);
    process->user = strdup(*request->user ? request->user : "user");
    process->working_directory = strdup(request->working_directory);
    if (!process->argv || !process->user || !process->working_directory) return false;
    for (size_t i = 0; i < request->n_argv; i++) {
        bytes += strlen(request->argv[i]) + 4;
        if (bytes > PROCESS_INFO_ARGUMENT_BYTES) break;
        if (!(process->argv[i] = strdup(request->argv[i]))) return false;
        process->argc++;
    }
    return true;
}

static struct process *process_new(struct agent *agent, const Guest__V1__StartProcess *request) {
    struct process *process = calloc(1, sizeof *process);
    if (!process) return NULL;
    process->report_fd = process->input_fd = -1;
    process->input_last = &process->input_first;
    process->input_writable = true;
    process->input_source.ready = input_ready;
    process->report_source.ready = report_ready;
    for (int i = 0; i < 2; i++) {
        process->outputs[i] = (struct process_output){
            .source = {output_ready},
            .process = process,
            .fd = -1,
            .stream = i == 0 ? GUEST__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDOUT
                             : GUEST__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR,
        };
    }
    output_log_initialize(&process->log);
    process->next = agent->processes;
    agent->processes = process;
    agent->process_count++;
    if (!copy_description(process, request)) {
        process_free(agent, process);
        return NULL;
    }
    return process;
}

static const char *invalid_start(const Guest__V1__StartProcess *request) {
    if (request->n_argv == 0 || !*request->argv[0]) return "argv is empty";
    if (request->n_argv > MAX_ARGV_ENTRIES) return "argv has too many entries";
    for (size_t i = 0; i < request->n_environment; i++) {
        const char *name = request->environment[i]->name;
        if (!*name || strchr(name, '=')) return "the name of an environment variable is empty or contains '='";
    }
    return NULL;
}

// The kernel gives numbers again: what an older process of the same number has left must not be found by it.
static void forget_namesake(struct agent *agent, uint32_t pid) {
    struct process *namesake = process_find(agent, pid);
    if (!namesake) return;
    while (namesake->readers) {
        stream_end(agent, namesake->readers->stream, GUEST__V1__STATUS_CODE__STATUS_CODE_NOT_FOUND, ESRCH,
                   "the process has given way to a newer one of its number");
    }
    process_free(agent, namesake);
}

void process_start(struct agent *agent, struct stream *stream, const Guest__V1__StartProcess *request) {
    const char *invalid = invalid_start(request);
    if (invalid) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_INVALID_ARGUMENT, EINVAL, invalid);
        return;
    }
    evict_finished(agent);
    struct process *process = agent->process_count < MAX_PROCESSES ? process_new(agent, request) : NULL;
    struct spawned spawned;
    int error = EAGAIN;
    if (!process || (error = process_spawn(request, &spawned)) != 0) {
        if (process) process_free(agent, process);
        stream_end_errno(agent, stream, error, "start process");
        return;
    }
    forget_namesake(agent, (uint32_t)spawned.pid);
    process->pid = (uint32_t)spawned.pid;
    process->started_unix_ms = (int64_t)(clock_read_ns(CLOCK_REALTIME) / 1000000u);
    if (request->timeout_ms) {
        uint64_t limit_ms = UINT64_MAX / 2 / 1000000u;
        uint64_t timeout_ms = request->timeout_ms < limit_ms ? request->timeout_ms : limit_ms;
        process->deadline_ns = clock_monotonic_ns() + timeout_ms * 1000000u;
    }
    process->report_fd = spawned.report_fd;
    process->input_fd = spawned.stdin_fd;
    process->outputs[0].fd = spawned.stdout_fd;
    process->outputs[1].fd = spawned.stderr_fd;
    struct process_following following = {.holds = !request->never_hold_back,
                                          .span_name = "guest.start_process"};
    // Every descriptor starts as ready, so a watch that fails for want of memory costs an edge, not correctness at start.
    process->report_readable = process->outputs[0].readable = process->outputs[1].readable = true;
    bool watched = agent_watch(agent, process->report_fd, EPOLLIN, &process->report_source) &&
                   agent_watch(agent, process->outputs[0].fd, EPOLLIN, &process->outputs[0].source) &&
                   agent_watch(agent, process->outputs[1].fd, EPOLLIN, &process->outputs[1].source) &&
                   (process->input_fd < 0 || agent_watch(agent, process->input_fd, EPOLLOUT, &process->input_source)) &&
                   process_reader_add(process, stream, &following);
    if (!watched) {
        error = errno;
        kill(spawned.pid, SIGKILL);
        process_free(agent, process);
        if (stream->id) stream_end_errno(agent, stream, error, "watch process");
    }
}

static void read_report(struct agent *agent, struct process *process) {
    struct spawn_report report;
    for (;;) {
        ssize_t got = read(process->report_fd, &report, sizeof report);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) {
            process->report_readable = false;
            return;
        }
        if (got != (ssize_t)sizeof report) {
            close_report(agent, process);
            process->state = PROCESS_RUNNING;
            return;
        }
        if (report.step == SPAWN_ENTERED) {
            char *entered = strndup(report.working_directory, sizeof report.working_directory);
            if (entered) free(process->working_directory), process->working_directory = entered;
            continue;
        }
        process_reader_fail_all(agent, process, report.errno_value, spawn_step_name(report.step));
        process_free(agent, process);
        return;
    }
}

static void kill_group(const struct process *process, int number) {
    // Before the child's setsid there is no such group yet.
    if (kill(-(pid_t)process->pid, number) != 0 && errno == ESRCH && !process->reaped) kill((pid_t)process->pid, number);
}

static void finish_if_drained(struct agent *agent, struct process *process) {
    if (process->state != PROCESS_DRAINING || !process_output_drained(process)) return;
    process->state = PROCESS_EXITED;
    process->place_kept_until_ns = 0;
    agent->finished_count++;
    process_input_close(agent, process);
}

static bool process_step(struct agent *agent, struct process *process) {
    if (process->deadline_ns && !process->reaped && clock_monotonic_ns() >= process->deadline_ns) {
        process->deadline_ns = 0;
        process->timed_out = true;
        kill_group(process, SIGKILL);
    }
    if (process->place_kept_until_ns && clock_monotonic_ns() >= process->place_kept_until_ns) {
        process->place_kept_until_ns = 0;
    }
    if (process->state == PROCESS_RUNNING && process->reaped) {
        process->state = PROCESS_DRAINING;
        process_output_begin_drain(process);
    }
    bool progress = process_output_read(agent, process);
    process_input_flush(agent, process);
    finish_if_drained(agent, process);
    return progress;
}

bool process_step_all(struct agent *agent) {
    bool progress = false;
    for (struct process *process = agent->processes, *next; process; process = next) {
        next = process->next;
        if (process->state == PROCESS_STARTING && process->report_readable) {
            read_report(agent, process);
            progress = true;
            continue;
        }
        if (process_step(agent, process)) progress = true;
    }
    evict_finished(agent);
    return progress;
}

bool process_reaped(struct agent *agent, pid_t pid, int wait_status) {
    struct process *process = process_find(agent, (uint32_t)pid);
    if (!process || process->reaped) return false;
    process->reaped = true;
    process->wait_status = wait_status;
    return true;
}

uint64_t process_next_deadline(struct agent *agent) {
    uint64_t nearest = 0;
    for (struct process *process = agent->processes; process; process = process->next) {
        uint64_t kept = process->place_kept_until_ns, deadline = process->reaped ? 0 : process->deadline_ns;
        if (kept && (!nearest || kept < nearest)) nearest = kept;
        if (deadline && (!nearest || deadline < nearest)) nearest = deadline;
    }
    return nearest;
}

void process_fill_exited(const struct process *process, Guest__V1__ProcessExited *exited) {
    if (WIFSIGNALED(process->wait_status)) {
        exited->signal = WTERMSIG(process->wait_status);
    } else {
        exited->exit_code = WEXITSTATUS(process->wait_status);
    }
    exited->timed_out = process->timed_out;
}

void process_signal(struct agent *agent, struct stream *stream, const Guest__V1__SignalProcess *request) {
    struct process *process = process_find(agent, request->pid);
    if (request->signal < 1 || request->signal > SIGRTMAX) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_INVALID_ARGUMENT, EINVAL, "no such signal");
    } else if (!process) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_NOT_FOUND, ESRCH, "no such process");
    } else if (process->reaped) {
        // Its number may belong to somebody else by now.
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_FAILED_PRECONDITION, ESRCH, "the process has ended");
    } else {
        kill_group(process, request->signal);
        stream_add_span(stream, "guest.signal_process", stream->opened_ns, clock_monotonic_ns());
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_OK, 0, NULL);
    }
}
