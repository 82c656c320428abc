#include "rig.h"

#include "test.h"
#include "torpor.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int start_process(const char *path, const char *const *arguments, const char *const *environment, const int32_t *descriptors,
                  int descriptor_count, int user, int *pidfd) {
    char strings[8192];
    size_t length = (size_t)snprintf(strings, sizeof strings, "%s", path) + 1;
    struct torpor_spawn_options options = {.descriptor_count = descriptor_count,
                                           .user = user ? user : -1,
                                           .group = user ? user : -1,
                                           .no_new_privileges = user != 0,
                                           .death_signal = SIGKILL};
    for (; arguments[options.argument_count]; options.argument_count++)
        length += (size_t)snprintf(strings + length, sizeof strings - length, "%s", arguments[options.argument_count]) + 1;
    for (; environment[options.environment_count]; options.environment_count++)
        length += (size_t)snprintf(strings + length, sizeof strings - length, "%s", environment[options.environment_count]) + 1;
    struct torpor_spawn_result result;
    const int error = torpor_spawn(&options, strings, length, descriptors, &result);
    if (error)
        fprintf(stderr, "  spawn of %s: %s at stage %d\n", path, strerrorname_np(-error), result.stage);
    CHECK_EQ(error, 0);
    *pidfd = result.pidfd;
    return result.pid;
}

int wait_end(int pidfd) {
    siginfo_t info = {0};
    CHECK_EQ(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
    close(pidfd);
    return info.si_code == CLD_EXITED ? info.si_status : 1000 + info.si_status;
}

struct rig start_vmm(struct snapshot snapshot, const struct rig_options *options) {
    struct rig rig = {.snapshot = snapshot, .pager_pidfd = -1};
    int sockets[2], control[2];
    CHECK((rig.memfd = torpor_memfd_create("guest", snapshot.size)) >= 0);
    CHECK((rig.result_fd = torpor_memfd_create("result", snapshot.size)) >= 0);
    rig.result = mmap(NULL, snapshot.size, PROT_READ | PROT_WRITE, MAP_SHARED, rig.result_fd, 0);
    CHECK(rig.result != MAP_FAILED);
    CHECK((rig.stats_fd = torpor_memfd_create("stats", torpor_pager_stats_size(snapshot.size))) >= 0);
    rig.stats = mmap(NULL, torpor_pager_stats_size(snapshot.size), PROT_READ, MAP_SHARED, rig.stats_fd, 0);
    CHECK(rig.stats != MAP_FAILED);
    CHECK_EQ(torpor_socket_pair(sockets), 0);
    CHECK_EQ(torpor_socket_pair(control), 0);
    rig.vmm_socket = sockets[0];
    rig.pager_socket = sockets[1];
    rig.control = control[0];
    struct stat status;
    CHECK_EQ(fstat(rig.memfd, &status), 0);
    const int device = torpor_open_userfaultfd_device();
    CHECK(device >= 0);
    char preload[600], inode[64], number[64], size[64], size_argument[32];
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", built_file("torpor-shim.so"));
    snprintf(inode, sizeof inode, "TORPOR_SHIM_MEMFD_INO=%lu", status.st_ino);
    snprintf(number, sizeof number, "TORPOR_SHIM_MEMFD_DEV=%lu", status.st_dev);
    snprintf(size, sizeof size, "TORPOR_SHIM_SIZE=%lu", snapshot.size);
    snprintf(size_argument, sizeof size_argument, "%lu", snapshot.size);
    const char *arguments[] = {"vmm", "run", "3", "4", size_argument, "5", NULL};
    const char *environment[] = {preload, inode, number, size, "TORPOR_SHIM_UFFD_DEVICE_FD=7",
                                 options->alone ? "ALONE=1" : "TORPOR_SHIM_SOCKET_FD=6",
                                 options->tracking ? "TORPOR_SHIM_TRACK=1" : "TORPOR_SHIM_TRACK=0",
                                 options->base_fd ? "TORPOR_SHIM_BASE_FD=8" : NULL, NULL};
    const int32_t descriptors[] = {2, 2, 3, rig.memfd, 4, rig.result_fd, 5, control[1], 6, rig.vmm_socket, 7, device,
                                   8, options->base_fd};
    rig.vmm = start_process(built_file("tests/vmm"), arguments, environment, descriptors, options->base_fd ? 7 : 6, options->user,
                            &rig.vmm_pidfd);
    close(control[1]);
    close(device);
    close(rig.vmm_socket);
    return rig;
}

void start_pager(struct rig *rig, const struct rig_options *options, int socket, int vmm_pidfd) {
    const char *arguments[20 + 2 * MAX_TEST_SOURCES] = {"torpor-pager", "--handshake-fd", "3", "--header-fd", "4", "--stats-fd", "5"};
    int32_t descriptors[2 * (9 + MAX_TEST_SOURCES)] = {2, 2, 3, socket, 4, rig->snapshot.header_fd, 5, rig->stats_fd};
    static char numbers[MAX_TEST_SOURCES][16];
    int count = 4, argument = 7;
    if (vmm_pidfd >= 0) {
        descriptors[2 * count] = 6;
        descriptors[2 * count++ + 1] = vmm_pidfd;
        arguments[argument++] = "--vmm-pidfd";
        arguments[argument++] = "6";
    }
    if (options->fault_around) {
        arguments[argument++] = "--fault-around-bytes";
        arguments[argument++] = options->fault_around;
    }
    if (options->working_set) {
        descriptors[2 * count] = 7;
        descriptors[2 * count++ + 1] = options->working_set;
        arguments[argument++] = "--prefetch-fd";
        arguments[argument++] = "7";
    }
    if (options->control_socket) {
        arguments[argument++] = "--control-socket";
        arguments[argument++] = options->control_socket;
    }
    for (uint32_t k = 0; k < rig->snapshot.source_count; k++) {
        snprintf(numbers[k], sizeof numbers[k], "%u", 10 + k);
        descriptors[2 * count] = (int32_t)(10 + k);
        descriptors[2 * count++ + 1] = rig->snapshot.sources[k];
        arguments[argument++] = "--source-fd";
        arguments[argument++] = numbers[k];
    }
    const char *environment[] = {"ASAN_OPTIONS=detect_leaks=0", NULL};
    rig->pager = start_process(built_file("tests/torpor-pager"), arguments, environment, descriptors, count, 0, &rig->pager_pidfd);
}

struct rig start_rig(struct snapshot snapshot, const struct rig_options *options) {
    struct rig rig = start_vmm(snapshot, options);
    start_pager(&rig, options, rig.pager_socket, -1);
    close(rig.pager_socket);
    return rig;
}

void send_command(struct rig *rig, enum vmm_operation operation, uint64_t offset, uint64_t length, uint64_t argument) {
    const struct vmm_command command = {operation, offset, length, argument};
    CHECK_EQ(write(rig->control, &command, sizeof command), sizeof command);
}

uint64_t receive_reply(struct rig *rig) {
    uint64_t reply;
    CHECK_EQ(read(rig->control, &reply, sizeof reply), sizeof reply);
    return reply;
}

uint64_t tell(struct rig *rig, enum vmm_operation operation, uint64_t offset, uint64_t length, uint64_t argument) {
    send_command(rig, operation, offset, length, argument);
    return receive_reply(rig);
}

void check_memory(struct rig *rig, int threads) {
    tell(rig, VMM_COPY_OUT, 0, rig->snapshot.size, (uint64_t)threads);
    for (uint64_t at = 0; at < rig->snapshot.size; at += 4096)
        if (memcmp(rig->result + at, rig->snapshot.expected + at, 4096)) {
            fprintf(stderr, "  page %lu differs\n", at / 4096);
            CHECK(!"memory is equal");
        }
}

void stop_rig(struct rig *rig) {
    CHECK_EQ(torpor_pidfd_signal(rig->vmm_pidfd, SIGKILL), 0);
    CHECK_EQ(wait_end(rig->vmm_pidfd), 1000 + SIGKILL);
    CHECK_EQ(wait_end(rig->pager_pidfd), 0);
    CHECK_EQ(rig->stats->state, TORPOR_PAGER_STOPPED);
    munmap(rig->stats, torpor_pager_stats_size(rig->snapshot.size));
    munmap(rig->result, rig->snapshot.size);
    close(rig->memfd);
    close(rig->result_fd);
    close(rig->stats_fd);
    close(rig->control);
    free_snapshot(&rig->snapshot);
}
