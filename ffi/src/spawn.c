// Starting a program with exactly the descriptors it is to have.
//
// The child shares the parent's memory until execve, and the calling thread waits (CLONE_VM and CLONE_VFORK): copying the page
// tables of a process as large as the agent takes longer than all the rest. So between clone and execve the child may use nothing but
// system calls and its plan: no malloc, no stdio, and not glibc's setuid family, which would signal the parent's threads.
#include "torpor.h"

#include "confine.h"
#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_DESCRIPTORS 4096
#define STACK_BYTES (64u << 10)

struct failure {
    int32_t stage;
    int32_t error;
};

struct plan {
    const struct torpor_spawn_options *options;
    const struct torpor_confinement *confinement; // or NULL
    const char *path;
    char **arguments;
    char **environment;
    const char *directory;
    const int32_t *descriptors;
    int *staged; // where the descriptors are parked above every number that the child is to have
    int report;  // write end of the failure pipe
    pid_t parent;
};

static int build_plan(struct plan *plan, const char *strings, uint64_t length) {
    const struct torpor_spawn_options *options = plan->options;
    const int64_t wanted = 1 + (int64_t)options->argument_count + options->environment_count + (options->has_directory ? 1 : 0);
    if (options->argument_count < 1 || options->environment_count < 0 || options->descriptor_count < 0 ||
        options->descriptor_count > MAX_DESCRIPTORS || !length || strings[length - 1])
        return -EINVAL;
    plan->arguments = calloc((size_t)options->argument_count + 1, sizeof *plan->arguments);
    plan->environment = calloc((size_t)options->environment_count + 1, sizeof *plan->environment);
    plan->staged = calloc((size_t)options->descriptor_count + 1, sizeof *plan->staged);
    if (!plan->arguments || !plan->environment || !plan->staged)
        return -ENOMEM;
    const char *at = strings, *end = strings + length;
    for (int64_t i = 0; i < wanted; i++, at += strlen(at) + 1) {
        if (at >= end)
            return -EINVAL;
        if (i == 0)
            plan->path = at;
        else if (i <= options->argument_count)
            plan->arguments[i - 1] = (char *)at;
        else if (i <= options->argument_count + options->environment_count)
            plan->environment[i - 1 - options->argument_count] = (char *)at;
        else
            plan->directory = at;
    }
    return at == end ? 0 : -EINVAL;
}

_Noreturn static void give_up(const struct plan *plan, int report, int stage) {
    const struct failure failure = {stage, errno};
    (void)!write(report < 0 ? plan->report : report, &failure, sizeof failure);
    _exit(127);
}

static int is_given(const struct plan *plan, int number) {
    for (int i = 0; i < plan->options->descriptor_count; i++)
        if (plan->descriptors[2 * i] == number)
            return 1;
    return 0;
}

// Returns the report pipe's new number. All sources are first parked above the highest target, so that no target overwrites a source.
static int place_descriptors(const struct plan *plan) {
    int highest = 2;
    for (int i = 0; i < plan->options->descriptor_count; i++)
        if (plan->descriptors[2 * i] > highest)
            highest = plan->descriptors[2 * i];
    const int report = fcntl(plan->report, F_DUPFD_CLOEXEC, highest + 1);
    if (report < 0)
        give_up(plan, -1, TORPOR_SPAWN_DESCRIPTORS);
    for (int i = 0; i < plan->options->descriptor_count; i++) {
        plan->staged[i] = fcntl(plan->descriptors[2 * i + 1], F_DUPFD_CLOEXEC, highest + 1);
        if (plan->staged[i] < 0)
            give_up(plan, report, TORPOR_SPAWN_DESCRIPTORS);
    }
    // Nothing but the targets may survive execve. Staged descriptors are close-on-exec; dup2 makes copies that are not.
    if (syscall(SYS_close_range, 0, ~0u, CLOSE_RANGE_CLOEXEC))
        give_up(plan, report, TORPOR_SPAWN_DESCRIPTORS);
    for (int i = 0; i < plan->options->descriptor_count; i++)
        if (dup2(plan->staged[i], plan->descriptors[2 * i]) < 0)
            give_up(plan, report, TORPOR_SPAWN_DESCRIPTORS);
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int number = 0; number <= 2; number++) {
        if (is_given(plan, number))
            continue;
        // dup2 onto itself would leave close-on-exec set.
        if (null < 0 || (null == number ? fcntl(null, F_SETFD, 0) : dup2(null, number)) < 0)
            give_up(plan, report, TORPOR_SPAWN_DESCRIPTORS);
    }
    return report;
}

static void reset_signals(void) {
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &standard, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void drop_credentials(const struct plan *plan, int report) {
    const struct torpor_spawn_options *options = plan->options;
    if (options->user >= 0 || options->group >= 0) {
        if (syscall(SYS_setgroups, 0, NULL))
            give_up(plan, report, TORPOR_SPAWN_CREDENTIALS);
    }
    if (options->group >= 0 && syscall(SYS_setresgid, options->group, options->group, options->group))
        give_up(plan, report, TORPOR_SPAWN_CREDENTIALS);
    if (options->user >= 0 && syscall(SYS_setresuid, options->user, options->user, options->user))
        give_up(plan, report, TORPOR_SPAWN_CREDENTIALS);
    if (options->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        give_up(plan, report, TORPOR_SPAWN_CREDENTIALS);
    // After setuid, which clears it; and the parent may have ended before it took effect. In a namespace of its own it sees no parent.
    if (options->death_signal) {
        if (prctl(PR_SET_PDEATHSIG, options->death_signal))
            give_up(plan, report, TORPOR_SPAWN_CREDENTIALS);
        if (getppid() != plan->parent && !(plan->confinement && plan->confinement->own_processes))
            _exit(127);
    }
}

static void confine_places(const struct plan *plan) {
    if (plan->confinement->oom_score > 0 && torpor_confine_raise_oom_score(plan->confinement->oom_score))
        give_up(plan, -1, TORPOR_SPAWN_OOM_SCORE);
    if (torpor_confine_enter_namespaces(plan->confinement))
        give_up(plan, -1, TORPOR_SPAWN_NAMESPACES);
}

static void confine_powers(const struct plan *plan, int report) {
    if (torpor_confine_limit(plan->confinement))
        give_up(plan, report, TORPOR_SPAWN_LIMITS);
    if (plan->confinement->drop_capabilities && torpor_confine_drop_bounding_set())
        give_up(plan, report, TORPOR_SPAWN_CAPABILITIES);
}

static void confine_calls(const struct plan *plan, int report) {
    if (plan->confinement->drop_capabilities && torpor_confine_drop_capabilities())
        give_up(plan, report, TORPOR_SPAWN_CAPABILITIES);
    if (plan->confinement->filter_system_calls && torpor_confine_filter_system_calls())
        give_up(plan, report, TORPOR_SPAWN_FILTER);
}

static int run_child(void *argument) {
    const struct plan *plan = argument;
    reset_signals();
    if (plan->confinement)
        confine_places(plan);
    const int report = place_descriptors(plan);
    if (syscall(SYS_setsid) < 0)
        give_up(plan, report, TORPOR_SPAWN_SESSION);
    if (plan->directory && chdir(plan->directory))
        give_up(plan, report, TORPOR_SPAWN_DIRECTORY);
    if (plan->confinement)
        confine_powers(plan, report);
    drop_credentials(plan, report);
    if (plan->confinement)
        confine_calls(plan, report);
    execve(plan->path, plan->arguments, plan->environment);
    give_up(plan, report, TORPOR_SPAWN_EXECUTE);
}

// The pidfd comes with the child, before anyone could reap it. Returns the pid, or the negative errno.
static long clone_with_pidfd(struct plan *plan, int *pidfd) {
    char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    const int own = plan->confinement && plan->confinement->own_processes ? CLONE_NEWPID : 0;
    const int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD | own;
    const int pid = clone(run_child, stack + STACK_BYTES, flags, plan, pidfd);
    const int error = errno; // by now the child has executed or ended, and needs its stack no more
    munmap(stack, STACK_BYTES);
    return pid < 0 ? -error : pid;
}

// Ends when the child has executed the program (the pipe closes) or has told why not.
static int wait_for_execution(int pipe_end, struct failure *failure) {
    ssize_t got;
    do
        got = read(pipe_end, failure, sizeof *failure);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof *failure ? 1 : 0;
}

static void reap(int pidfd) {
    siginfo_t info;
    while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) && errno == EINTR)
        ;
    close(pidfd);
}

static int start(struct plan *plan, struct torpor_spawn_result *result) {
    int report[2], pidfd = -1;
    if (pipe2(report, O_CLOEXEC))
        return -errno;
    plan->report = report[1];
    plan->parent = getpid();
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); // none of the parent's handlers may run in the child
    const long pid = clone_with_pidfd(plan, &pidfd);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    struct failure failure = {TORPOR_SPAWN_PARENT, pid < 0 ? (int32_t)-pid : 0};
    const int failed = pid < 0 || wait_for_execution(report[0], &failure);
    close(report[0]);
    result->stage = failed ? failure.stage : 0;
    if (failed && pid > 0)
        reap(pidfd);
    if (failed)
        return -failure.error;
    const int64_t start_time = torpor_process_start_time((int)pid); // there even if it has ended: nobody reaped it yet
    *result = (struct torpor_spawn_result){(int32_t)pid, pidfd, 0, 0, start_time > 0 ? (uint64_t)start_time : 0};
    return 0;
}

TORPOR_EXPORT int torpor_spawn_confined(const struct torpor_spawn_options *options, const char *strings, uint64_t strings_length,
                                        const int32_t *descriptors, const struct torpor_confinement *confinement,
                                        struct torpor_spawn_result *result) {
    struct plan plan = {.options = options, .confinement = confinement, .descriptors = descriptors};
    *result = (struct torpor_spawn_result){0};
    int status = build_plan(&plan, strings, strings_length);
    if (!status)
        status = start(&plan, result);
    free(plan.arguments);
    free(plan.environment);
    free(plan.staged);
    return status;
}

TORPOR_EXPORT int torpor_spawn(const struct torpor_spawn_options *options, const char *strings, uint64_t strings_length,
                               const int32_t *descriptors, struct torpor_spawn_result *result) {
    return torpor_spawn_confined(options, strings, strings_length, descriptors, NULL, result);
}
