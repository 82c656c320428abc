#define _GNU_SOURCE
#include "process_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account.h"
#include "platform.h"

enum { READ_END = 0, WRITE_END = 1 };

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct pipes {
    int report[2], input[2], output[2], error[2];
};

const char *spawn_step_name(int32_t step) {
    switch (step) {
        case SPAWN_USER: return "user";
        case SPAWN_PRIVILEGES: return "switch to the user";
        case SPAWN_WORKING_DIRECTORY: return "working directory";
        case SPAWN_EXEC: return "exec";
        default: return "start";
    }
}

static void close_pipe(int ends[2]) {
    if (ends[READ_END] >= 0) close(ends[READ_END]);
    if (ends[WRITE_END] >= 0) close(ends[WRITE_END]);
}

static void close_pipes(struct pipes *pipes) {
    close_pipe(pipes->report);
    close_pipe(pipes->input);
    close_pipe(pipes->output);
    close_pipe(pipes->error);
}

static int open_pipes(struct pipes *pipes, bool with_stdin) {
    memset(pipes, 0xFF, sizeof *pipes);
    bool failed = pipe2(pipes->report, O_CLOEXEC) || pipe2(pipes->output, O_CLOEXEC) || pipe2(pipes->error, O_CLOEXEC);
    if (!failed && with_stdin) {
        failed = pipe2(pipes->input, O_CLOEXEC) != 0;
    } else if (!failed) {
        pipes->input[READ_END] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        failed = pipes->input[READ_END] < 0;
    }
    if (!failed) return 0;
    int error = errno;
    close_pipes(pipes);
    return error;
}

static void report(int fd, enum spawn_step step, int errno_value, const char *working_directory) {
    struct spawn_report message = {.step = step, .errno_value = errno_value};
    if (working_directory) snprintf(message.working_directory, sizeof message.working_directory, "%s", working_directory);
    // A report of under PIPE_BUF bytes is written whole; should the agent be gone, nobody is left to be told.
    if (write(fd, &message, sizeof message) < 0) _exit(126);
}

_Noreturn static void fail(int fd, enum spawn_step step, int errno_value) {
    report(fd, step, errno_value, NULL);
    _exit(127);
}

static int set_environment(const Guest__V1__StartProcess *request, const struct account *account) {
    if (clearenv() || setenv("PATH", DEFAULT_PATH, 1) || setenv("HOME", account->home, 1) ||
        setenv("USER", account->name, 1) || setenv("LOGNAME", account->name, 1)) {
        return ENOMEM;
    }
    for (size_t i = 0; i < request->n_environment; i++) {
        if (setenv(request->environment[i]->name, request->environment[i]->value, 1)) return errno;
    }
    return 0;
}

static void reset_signals(void) {
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn static void run_child(const Guest__V1__StartProcess *request, struct pipes *pipes) {
    int report_fd = pipes->report[WRITE_END];
    setsid();
    struct account account;
    int error = account_find(request->user, &account);
    if (error) fail(report_fd, SPAWN_USER, error);
    if (dup2(pipes->input[READ_END], STDIN_FILENO) < 0 || dup2(pipes->output[WRITE_END], STDOUT_FILENO) < 0 ||
        dup2(pipes->error[WRITE_END], STDERR_FILENO) < 0) {
        fail(report_fd, SPAWN_PRIVILEGES, errno);
    }
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    reset_signals();
    umask(022);
    struct rlimit files = {65536, 1048576};
    setrlimit(RLIMIT_NOFILE, &files);
    if ((error = account_become(&account)) != 0) fail(report_fd, SPAWN_PRIVILEGES, error);
    const char *directory = *request->working_directory ? request->working_directory : account.home;
    if (chdir(directory)) fail(report_fd, SPAWN_WORKING_DIRECTORY, errno);
    if ((error = set_environment(request, &account)) != 0) fail(report_fd, SPAWN_EXEC, error);
    report(report_fd, SPAWN_ENTERED, 0, directory);
    char **argv = calloc(request->n_argv + 1, sizeof *argv);
    if (!argv) fail(report_fd, SPAWN_EXEC, ENOMEM);
    memcpy(argv, request->argv, request->n_argv * sizeof *argv);
    execvp(argv[0], argv);
    fail(report_fd, SPAWN_EXEC, errno);
}

int process_spawn(const Guest__V1__StartProcess *request, struct spawned *spawned) {
    struct pipes pipes;
    int error = open_pipes(&pipes, request->stdin);
    if (error) return error;
    pid_t pid = platform_fork_user_process();
    if (pid == 0) run_child(request, &pipes);
    if (pid < 0) {
        error = errno;
        close_pipes(&pipes);
        return error;
    }
    close(pipes.report[WRITE_END]);
    close(pipes.input[READ_END]);
    close(pipes.output[WRITE_END]);
    close(pipes.error[WRITE_END]);
    *spawned = (struct spawned){
        .pid = pid,
        .report_fd = pipes.report[READ_END],
        .stdin_fd = pipes.input[WRITE_END],
        .stdout_fd = pipes.output[READ_END],
        .stderr_fd = pipes.error[READ_END],
    };
    fcntl(spawned->report_fd, F_SETFL, O_NONBLOCK);
    fcntl(spawned->stdout_fd, F_SETFL, O_NONBLOCK);
    fcntl(spawned->stderr_fd, F_SETFL, O_NONBLOCK);
    if (spawned->stdin_fd >= 0) fcntl(spawned->stdin_fd, F_SETFL, O_NONBLOCK);
    return 0;
}
