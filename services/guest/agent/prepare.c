#define _GNU_SOURCE
#include "prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "clock.h"
#include "freezer.h"
#include "reclaim.h"

enum { READ_END = 0, WRITE_END = 1, FREEZE_STEP = RECLAIM_STEPS };

// What a child writes when its step has ended; at most PIPE_BUF.
struct step_result {
    int32_t errno_value;
    uint64_t bytes_trimmed;
};

static const struct {
    Guest__V1__HookStep step;
    const char *span;
} step_names[PREPARE_STEPS] = {
    [RECLAIM_FSTRIM] = {GUEST__V1__HOOK_STEP__HOOK_STEP_FSTRIM, "guest.fstrim"},
    [RECLAIM_SYNC] = {GUEST__V1__HOOK_STEP__HOOK_STEP_SYNC, "guest.sync"},
    [RECLAIM_DROP_CACHES] = {GUEST__V1__HOOK_STEP__HOOK_STEP_DROP_CACHES, "guest.drop_caches"},
    [RECLAIM_COMPACT_MEMORY] = {GUEST__V1__HOOK_STEP__HOOK_STEP_COMPACT_MEMORY, "guest.compact_memory"},
    [FREEZE_STEP] = {GUEST__V1__HOOK_STEP__HOOK_STEP_FREEZE, "guest.freeze"},
};

static uint64_t free_bytes(void) {
    struct sysinfo information;
    return sysinfo(&information) ? 0 : (uint64_t)information.freeram * information.mem_unit;
}

static void step_ready(struct event_source *source, uint32_t events) {
    (void)events;
    ((struct prepare *)source)->readable = true;
}

static void close_pipe(struct agent *agent) {
    struct prepare *prepare = &agent->prepare;
    if (prepare->pipe < 0) return;
    agent_unwatch(agent, prepare->pipe, &prepare->source);
    close(prepare->pipe);
    prepare->pipe = -1;
}

// A child that hangs for ever must not keep the agent's descriptors: the port can be opened only once.
static void close_all_but(int pipe, int other) {
    unsigned first = (unsigned)(pipe < other ? pipe : other), second = (unsigned)(pipe < other ? other : pipe);
    if (other < 0) first = second;
    unsigned from = STDERR_FILENO + 1;
    if (first > from) close_range(from, first - 1, 0);
    if (second > first + 1) close_range(first + 1, second - 1, 0);
    close_range(second + 1, ~0U, 0);
}

_Noreturn static void run_child(enum reclaim_step step, int pipe, pid_t agent_pid) {
    close_all_but(pipe, reclaim_descriptor());
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != agent_pid) _exit(1);
    struct step_result result = {0};
    result.errno_value = reclaim_run(step, &result.bytes_trimmed);
    _exit(write(pipe, &result, sizeof result) == (ssize_t)sizeof result ? 0 : 1);
}

static int start_child(struct agent *agent, enum reclaim_step step) {
    struct prepare *prepare = &agent->prepare;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK)) return errno;
    pid_t agent_pid = getpid(), pid = fork();
    if (pid == 0) run_child(step, ends[WRITE_END], agent_pid);
    int error = pid < 0 ? errno : 0;
    close(ends[WRITE_END]);
    prepare->pipe = ends[READ_END];
    prepare->pid = pid;
    prepare->readable = false;
    if (!error && !agent_watch(agent, prepare->pipe, EPOLLIN, &prepare->source)) {
        error = errno;
        kill(pid, SIGKILL);
    }
    if (error) close_pipe(agent);
    return error;
}

static void report(struct agent *agent, struct stream *stream, Guest__V1__HookResult result, struct step_result child) {
    struct prepare *prepare = &agent->prepare;
    uint64_t now = clock_monotonic_ns();
    Guest__V1__HookReport hook = GUEST__V1__HOOK_REPORT__INIT;
    hook.step = step_names[prepare->step].step;
    hook.result = result;
    hook.errno_value = child.errno_value;
    hook.bytes_trimmed = child.bytes_trimmed;
    hook.duration_us = (now - prepare->started_ns) / 1000;
    hook.free_bytes_before = prepare->free_before;
    hook.free_bytes_after = free_bytes();
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_HOOK_REPORT;
    frame.hook_report = &hook;
    stream_send(agent, stream, &frame);
    stream_add_span(stream, step_names[prepare->step].span, prepare->started_ns, now);
    prepare->running = false;
    prepare->step++;
}

static void report_errno(struct agent *agent, struct stream *stream, struct step_result child) {
    bool failed = child.errno_value != 0;
    report(agent, stream, failed ? GUEST__V1__HOOK_RESULT__HOOK_RESULT_FAILED : GUEST__V1__HOOK_RESULT__HOOK_RESULT_OK,
           child);
}

static void start_step(struct agent *agent, struct stream *stream) {
    struct prepare *prepare = &agent->prepare;
    prepare->running = true;
    prepare->started_ns = clock_monotonic_ns();
    prepare->deadline_ns = prepare->started_ns + prepare->caps_ms[prepare->step] * 1000000ull;
    prepare->free_before = free_bytes();
    int error = prepare->step == FREEZE_STEP ? freezer_freeze(agent, prepare->watchdog_ms)
                                             : start_child(agent, (enum reclaim_step)prepare->step);
    if (error) report_errno(agent, stream, (struct step_result){.errno_value = error});
}

static bool out_of_time(struct agent *agent, struct stream *stream) {
    struct prepare *prepare = &agent->prepare;
    if (clock_monotonic_ns() < prepare->deadline_ns) return false;
    if (prepare->step != FREEZE_STEP) {
        // One that hangs in the kernel dies when it comes back from there; nobody waits for that.
        kill(prepare->pid, SIGKILL);
        close_pipe(agent);
    }
    report(agent, stream, GUEST__V1__HOOK_RESULT__HOOK_RESULT_TIMED_OUT, (struct step_result){0});
    return true;
}

static bool follow_child(struct agent *agent, struct stream *stream) {
    struct prepare *prepare = &agent->prepare;
    if (!prepare->readable) return out_of_time(agent, stream);
    struct step_result result;
    ssize_t got = read(prepare->pipe, &result, sizeof result);
    if (got < 0 && errno == EINTR) return true;
    if (got < 0 && errno == EAGAIN) {
        prepare->readable = false;
        return out_of_time(agent, stream);
    }
    // It died before it could tell.
    if (got != (ssize_t)sizeof result) result = (struct step_result){.errno_value = ESRCH};
    close_pipe(agent);
    report_errno(agent, stream, result);
    return true;
}

static bool pump_prepare(struct agent *agent, struct stream *stream) {
    struct prepare *prepare = &agent->prepare;
    if (prepare->running && prepare->step != FREEZE_STEP) return follow_child(agent, stream);
    if (prepare->running && freezer_is_frozen(agent)) {
        report(agent, stream, GUEST__V1__HOOK_RESULT__HOOK_RESULT_OK, (struct step_result){0});
        return true;
    }
    if (prepare->running) return out_of_time(agent, stream);
    while (prepare->step < PREPARE_STEPS && prepare->caps_ms[prepare->step] == 0) prepare->step++;
    if (prepare->step < PREPARE_STEPS) {
        start_step(agent, stream);
        return true;
    }
    prepare->stream = NULL;
    stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_OK, 0, NULL);
    return true;
}

// Cancelled, or the host is gone: there will be no pause.
static void close_prepare(struct agent *agent, struct stream *stream) {
    struct prepare *prepare = &agent->prepare;
    if (prepare->stream != stream) return;
    prepare->stream = NULL;
    if (prepare->pipe >= 0) kill(prepare->pid, SIGKILL);
    close_pipe(agent);
    prepare->running = false;
    // If that fails, the watchdog tries again.
    freezer_thaw(agent, NULL);
}

static const struct stream_kind prepare_kind = {.pump = pump_prepare, .close = close_prepare};

void prepare_start(struct agent *agent, struct stream *stream, const Guest__V1__PreparePause *request) {
    struct prepare *prepare = &agent->prepare;
    if (prepare->stream) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_FAILED_PRECONDITION, EBUSY,
                   "a pause is being prepared already");
        return;
    }
    if ((request->freeze_ms != 0) != (request->watchdog_ms != 0)) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_INVALID_ARGUMENT, EINVAL,
                   "freeze_ms and watchdog_ms belong together");
        return;
    }
    *prepare = (struct prepare){
        .source = {step_ready},
        .stream = stream,
        .pipe = -1,
        .caps_ms = {request->fstrim_ms, request->sync_ms, request->drop_caches_ms, request->compact_memory_ms,
                    request->freeze_ms},
        .watchdog_ms = request->watchdog_ms,
    };
    stream->kind = &prepare_kind;
}

uint64_t prepare_next_deadline(const struct agent *agent) {
    return agent->prepare.running ? agent->prepare.deadline_ns : 0;
}
