// Starting, watching and recognising processes.
#include "rig.h"
#include "test.h"
#include "torpor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int spawn_strings(const char *strings, uint64_t length, struct torpor_spawn_options options, const int32_t *descriptors,
                         struct torpor_spawn_result *result) {
    return torpor_spawn(&options, strings, length, descriptors, result);
}

// What `vmm inspect` prints when started with these options; `descriptors` has room for one pair more.
static char *inspect(struct torpor_spawn_options options, const char *rest, uint64_t rest_length, int32_t *descriptors) {
    static char text[4096];
    char strings[1024];
    int pipe_ends[2];
    CHECK_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
    uint64_t length = (uint64_t)snprintf(strings, sizeof strings, "%s%cvmm%cinspect%c", built_file("tests/vmm"), 0, 0, 0);
    memcpy(strings + length, rest, rest_length);
    options.argument_count = 2;
    descriptors[2 * options.descriptor_count] = 1;
    descriptors[2 * options.descriptor_count + 1] = pipe_ends[1];
    options.descriptor_count++;
    struct torpor_spawn_result result;
    CHECK_EQ(spawn_strings(strings, length + rest_length, options, descriptors, &result), 0);
    close(pipe_ends[1]);
    size_t have = 0;
    for (ssize_t got; (got = read(pipe_ends[0], text + have, sizeof text - 1 - have)) > 0;)
        have += (size_t)got;
    text[have] = 0;
    close(pipe_ends[0]);
    CHECK_EQ(wait_end(result.pidfd), 0);
    return text;
}

TEST(spawn_gives_exactly_the_descriptors_asked_for) {
    const int leaked = open("/dev/null", O_RDONLY); // not even close-on-exec
    CHECK(leaked >= 0);
    int32_t descriptors[8] = {9, leaked, 4, leaked};
    const char *seen = inspect((struct torpor_spawn_options){.descriptor_count = 2, .user = -1, .group = -1}, "", 0, descriptors);
    CHECK(strstr(seen, "fds 0 1 2 4 9\n"));
    CHECK(strstr(seen, "session 1\n"));
}

TEST(spawn_can_swap_descriptors) {
    int pair[2], sockets[2];
    CHECK_EQ(pipe2(pair, O_CLOEXEC), 0);
    CHECK_EQ(torpor_socket_pair(sockets), 0);
    char strings[256];
    const int length = snprintf(strings, sizeof strings, "/bin/sh%csh%c-c%c[ -p /dev/fd/%d ] && [ -S /dev/fd/%d ]%c", 0, 0, 0, sockets[0],
                                pair[0], 0);
    const int32_t descriptors[] = {sockets[0], pair[0], pair[0], sockets[0]};
    struct torpor_spawn_result result;
    const struct torpor_spawn_options options = {.argument_count = 3, .descriptor_count = 2, .user = -1, .group = -1};
    CHECK_EQ(spawn_strings(strings, (uint64_t)length, options, descriptors, &result), 0);
    CHECK_EQ(wait_end(result.pidfd), 0);
}

TEST(spawn_resets_signals) {
    signal(SIGPIPE, SIG_IGN);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    int32_t descriptors[2];
    const char *seen = inspect((struct torpor_spawn_options){.user = -1, .group = -1}, "", 0, descriptors);
    CHECK(strstr(seen, "blocked 0 ignored 0\n"));
}

TEST(spawn_drops_privileges_and_sets_directory_and_environment) {
    int32_t descriptors[2];
    const struct torpor_spawn_options options = {.environment_count = 1,
                                                 .has_directory = 1,
                                                 .user = 65534,
                                                 .group = 65533,
                                                 .no_new_privileges = 1,
                                                 .death_signal = SIGTERM};
    const char *seen = inspect(options, "MARK=here\0/tmp", 15, descriptors);
    CHECK(strstr(seen, "uid 65534 gid 65533 nnp 1 death 15\n"));
    CHECK(strstr(seen, "cwd /tmp\nenv here\n"));
}

TEST(spawn_reports_why_it_failed) {
    const struct torpor_spawn_options plain = {.argument_count = 1, .user = -1, .group = -1};
    struct torpor_spawn_options with_directory = plain, with_descriptor = plain;
    with_directory.has_directory = 1;
    with_descriptor.descriptor_count = 1;
    const int32_t bad[] = {5, 1000};
    struct torpor_spawn_result result;
    CHECK_EQ(spawn_strings("/no/such/program\0x", 19, plain, NULL, &result), -ENOENT);
    CHECK_EQ(result.stage, TORPOR_SPAWN_EXECUTE);
    CHECK_EQ(spawn_strings("/etc/passwd\0x", 14, plain, NULL, &result), -EACCES);
    CHECK_EQ(spawn_strings("/bin/true\0x\0/no/such", 21, with_directory, NULL, &result), -ENOENT);
    CHECK_EQ(result.stage, TORPOR_SPAWN_DIRECTORY);
    CHECK_EQ(spawn_strings("/bin/true\0x", 12, with_descriptor, bad, &result), -EBADF);
    CHECK_EQ(result.stage, TORPOR_SPAWN_DESCRIPTORS);
    CHECK_EQ(spawn_strings("/bin/true\0x", 11, plain, NULL, &result), -EINVAL);     // not terminated
    CHECK_EQ(spawn_strings("/bin/true", 10, plain, NULL, &result), -EINVAL);        // too few strings
    CHECK_EQ(spawn_strings("/bin/true\0x\0y", 14, plain, NULL, &result), -EINVAL);  // too many
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1); // no zombie is left
    CHECK_EQ(errno, ECHILD);
}

static struct torpor_spawn_result shell(const char *script) {
    char strings[256];
    const int length = snprintf(strings, sizeof strings, "/bin/sh%csh%c-c%c%s%c", 0, 0, 0, script, 0);
    const struct torpor_spawn_options options = {.argument_count = 3, .user = -1, .group = -1, .death_signal = SIGKILL};
    struct torpor_spawn_result result;
    CHECK_EQ(spawn_strings(strings, (uint64_t)length, options, NULL, &result), 0);
    return result;
}

TEST(spawn_tells_the_start_time_even_of_a_process_that_ended) {
    for (int i = 0; i < 20; i++) {
        const struct torpor_spawn_result result = shell("exit 0");
        CHECK(result.start_time > 0);
        CHECK_EQ(torpor_process_start_time(result.pid), (int64_t)result.start_time);
        wait_end(result.pidfd);
        CHECK_EQ(torpor_process_start_time(result.pid), -ENOENT);
    }
}

static struct torpor_exit_record next_record(int socket) {
    struct torpor_exit_record record;
    CHECK_EQ(recv(socket, &record, sizeof record, MSG_WAITALL), sizeof record);
    return record;
}

TEST(watcher_tells_code_and_signal) {
    int socket;
    struct torpor_watcher *watcher = torpor_watcher_start(&socket);
    CHECK(watcher && socket >= 0);
    const struct torpor_spawn_result exits = shell("exit 7"), waits = shell("exec sleep 1000");
    CHECK_EQ(torpor_watcher_add(watcher, exits.pidfd, 11), 0);
    CHECK_EQ(torpor_watcher_add(watcher, waits.pidfd, 22), 0);
    struct torpor_exit_record record = next_record(socket);
    CHECK(record.token == 11 && record.code == 7 && record.signal == -1);
    CHECK_EQ(torpor_pidfd_signal(exits.pidfd, 0), -ESRCH); // reaped
    CHECK_EQ(torpor_pidfd_signal(waits.pidfd, SIGUSR1), 0);
    record = next_record(socket);
    CHECK(record.token == 22 && record.code == -1 && record.signal == SIGUSR1);
    torpor_watcher_stop(watcher);
    CHECK_EQ(read(socket, &record, sizeof record), 0);
    close(socket);
    close(exits.pidfd);
    close(waits.pidfd);
}

TEST(watcher_sees_the_end_of_a_process_that_is_no_child) {
    int socket, numbers[2];
    CHECK_EQ(pipe(numbers), 0);
    const pid_t child = fork();
    if (!child) { // leaves a grandchild behind that is not ours to reap
        const pid_t grandchild = fork();
        if (!grandchild) {
            pause();
            _exit(0);
        }
        (void)!write(numbers[1], &grandchild, sizeof grandchild);
        _exit(0);
    }
    pid_t pid;
    CHECK_EQ(read(numbers[0], &pid, sizeof pid), sizeof pid);
    waitpid(child, NULL, 0);
    const int pidfd = torpor_pidfd_open(pid);
    CHECK(pidfd >= 0);
    struct torpor_watcher *watcher = torpor_watcher_start(&socket);
    CHECK_EQ(torpor_watcher_add(watcher, pidfd, 5), 0);
    CHECK_EQ(torpor_pidfd_signal(pidfd, SIGKILL), 0);
    const struct torpor_exit_record record = next_record(socket);
    CHECK(record.token == 5 && record.code == -1 && record.signal == -1);
    torpor_watcher_stop(watcher);
    close(socket);
    close(pidfd);
}

TEST(watcher_can_stop_while_it_watches_and_while_nobody_reads) {
    int socket;
    struct torpor_watcher *watcher = torpor_watcher_start(&socket);
    const struct torpor_spawn_result waits = shell("exec sleep 1000");
    CHECK_EQ(torpor_watcher_add(watcher, waits.pidfd, 1), 0);
    CHECK_EQ(torpor_watcher_add(watcher, -1, 2), -EBADF);
    for (int i = 0; i < 8; i++) {
        const struct torpor_spawn_result ends = shell("exit 0");
        CHECK_EQ(torpor_watcher_add(watcher, ends.pidfd, 3), 0);
        close(ends.pidfd);
    }
    torpor_watcher_stop(watcher);
    close(socket);
    CHECK_EQ(torpor_pidfd_signal(waits.pidfd, SIGKILL), 0); // it lived on
    CHECK_EQ(wait_end(waits.pidfd), 1000 + SIGKILL);
}

TEST(descriptors_can_be_fetched_from_a_process) {
    const struct torpor_spawn_result waits = shell("exec sleep 1000 < /etc/passwd");
    struct stat wanted, got;
    CHECK_EQ(stat("/etc/passwd", &wanted), 0);
    int fd;
    do { // until the shell has redirected, for which it closes 0 first
        fd = torpor_pidfd_get_descriptor(waits.pidfd, 0);
        CHECK(fd >= 0 || fd == -EBADF);
        got.st_ino = 0;
        CHECK(fd < 0 || !fstat(fd, &got));
        if (fd >= 0)
            close(fd);
    } while (got.st_ino != wanted.st_ino);
    CHECK_EQ(torpor_pidfd_get_descriptor(waits.pidfd, 200), -EBADF);
    torpor_pidfd_signal(waits.pidfd, SIGKILL);
    wait_end(waits.pidfd);
}
