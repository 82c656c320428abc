#include "base_rig.h"

#include "base_control.h"
#include "descriptor_passing.h"
#include "test.h"
#include "torpor.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

struct base_rig start_base(struct snapshot snapshot, const struct base_options *options) {
    struct base_rig base = {.snapshot = snapshot};
    char path[32];
    int sockets[2];
    CHECK((base.base_fd = torpor_memfd_create("base", snapshot.size)) >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", base.base_fd);
    CHECK((base.clone_fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0);
    CHECK((base.stats_fd = torpor_memfd_create("stats", torpor_pager_stats_size(snapshot.size))) >= 0);
    base.stats = mmap(NULL, torpor_pager_stats_size(snapshot.size), PROT_READ, MAP_SHARED, base.stats_fd, 0);
    CHECK(base.stats != MAP_FAILED);
    CHECK_EQ(torpor_socket_pair(sockets), 0);
    base.agent_end = sockets[0];
    base.pager_end = sockets[1];
    start_base_pager(&base, options);
    return base;
}

void start_base_pager(struct base_rig *base, const struct base_options *options) {
    const char *arguments[26 + 2 * MAX_TEST_SOURCES] = {"torpor-base-pager", "--control-fd", "3", "--base-fd", "5", "--header-fd", "6",
                                                        "--stats-fd", "7", "--userfaultfd-device-fd", "8"};
    const int device = torpor_open_userfaultfd_device();
    CHECK(device >= 0);
    int32_t descriptors[2 * (10 + MAX_TEST_SOURCES)] = {2, 2, 3, base->pager_end, 4, base->agent_end, 5, base->base_fd, 6,
                                                        base->snapshot.header_fd, 7, base->stats_fd, 8, device};
    static char numbers[MAX_TEST_SOURCES][16];
    int count = 7, argument = 11;
    if (options->prefetch_fd) {
        arguments[argument++] = "--prefetch-fd";
        arguments[argument++] = "9";
        descriptors[2 * count] = 9;
        descriptors[2 * count++ + 1] = options->prefetch_fd;
    }
    if (options->fault_around) {
        arguments[argument++] = "--fault-around-bytes";
        arguments[argument++] = options->fault_around;
    }
    if (options->control_socket) {
        arguments[argument++] = "--control-socket";
        arguments[argument++] = options->control_socket;
    }
    arguments[argument++] = "--idle-ms";
    arguments[argument++] = options->idle_ms ? options->idle_ms : "3000";
    for (uint32_t k = 0; k < base->snapshot.source_count; k++) {
        snprintf(numbers[k], sizeof numbers[k], "%u", 10 + k);
        descriptors[2 * count] = (int32_t)(10 + k);
        descriptors[2 * count++ + 1] = base->snapshot.sources[k];
        arguments[argument++] = "--source-fd";
        arguments[argument++] = numbers[k];
    }
    const char *environment[] = {"ASAN_OPTIONS=detect_leaks=0", NULL};
    base->pager = start_process(built_file("tests/torpor-base-pager"), arguments, environment, descriptors, count, 0,
                                &base->pager_pidfd);
    close(device);
}

uint32_t server_of(const struct base_rig *base, uint32_t other_than) {
    uint32_t pid;
    while (!(pid = base->stats->pid) || pid == other_than)
        sched_yield();
    return pid;
}

void kill_server(const struct base_rig *base) {
    CHECK_EQ(kill((pid_t)server_of(base, 0), SIGKILL), 0);
}

void expect_base_end(struct base_rig *base, int status) {
    CHECK_EQ(wait_end(base->pager_pidfd), status);
}

int join_base(struct base_rig *base, struct rig *rig, int socket, int vmm_pidfd) {
    int replies[2];
    CHECK_EQ(torpor_socket_pair(replies), 0);
    const struct torpor_base_message message = {TORPOR_BASE_MAGIC, TORPOR_BASE_JOIN};
    const int descriptors[] = {socket, rig->stats_fd, replies[1], vmm_pidfd};
    CHECK_EQ(torpor_send_descriptors(base->agent_end, &message, sizeof message, descriptors, vmm_pidfd < 0 ? 3 : 4), 0);
    close(replies[1]);
    struct torpor_base_reply reply = {-1, -1};
    const ssize_t got = read(replies[0], &reply, sizeof reply);
    CHECK(got == sizeof reply || !got);
    close(replies[0]);
    return got ? reply.error : -1;
}

struct rig start_sibling(struct base_rig *base) {
    struct snapshot snapshot = base->snapshot;
    snapshot.expected = malloc(snapshot.size);
    memcpy(snapshot.expected, base->snapshot.expected, snapshot.size);
    struct rig sibling = start_vmm(snapshot, &(struct rig_options){.base_fd = base->clone_fd, .user = 65534});
    CHECK_EQ(join_base(base, &sibling, sibling.pager_socket, -1), 0);
    close(sibling.pager_socket);
    return sibling;
}

void stop_sibling(struct rig *sibling) {
    CHECK_EQ(torpor_allocated_bytes(sibling->memfd), 0); // its own memory file is never used
    CHECK_EQ(torpor_pidfd_signal(sibling->vmm_pidfd, SIGKILL), 0);
    CHECK_EQ(wait_end(sibling->vmm_pidfd), 1000 + SIGKILL);
    while (sibling->stats->state == TORPOR_PAGER_SERVING)
        sched_yield();
    CHECK_EQ(sibling->stats->state, TORPOR_PAGER_STOPPED);
    munmap(sibling->stats, torpor_pager_stats_size(sibling->snapshot.size));
    munmap(sibling->result, sibling->snapshot.size);
    close(sibling->memfd);
    close(sibling->result_fd);
    close(sibling->stats_fd);
    close(sibling->control);
    free(sibling->snapshot.expected);
}

void begin_check(struct rig *sibling, int threads) {
    send_command(sibling, VMM_COPY_OUT, 0, sibling->snapshot.size, (uint64_t)threads);
}

void end_check(struct rig *sibling) {
    receive_reply(sibling);
    for (uint64_t at = 0; at < sibling->snapshot.size; at += 4096)
        if (memcmp(sibling->result + at, sibling->snapshot.expected + at, 4096)) {
            fprintf(stderr, "  page %lu differs\n", at / 4096);
            CHECK(!"memory is equal");
        }
}
