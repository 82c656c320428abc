// A hostile host end: valid, mutated and cut frames in random order, against the whole core in this process under the
// sanitizers. It runs in a child that is confined to an empty directory and an unprivileged user, because what arrives
// are real requests to remove files and start programs.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "framing.h"
#include "process.h"
#include "test.h"

enum { FUZZ_INPUTS = 40000, NOBODY = 65534, ROUNDS_PER_INPUT = 2, FORK_EVERY = 50, PORT = 8000, MAX_CLIENTS = 32 };

static struct agent agent;
static int host_end;
static unsigned pongs;
static int port_listener;
static unsigned port_bytes;

// Most inputs that parse would fork a child, which is slow under ASan; now and then one may.
pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t __wrap_fork(void) {
    static unsigned asked;
    if (asked++ % FORK_EVERY == 0) return __real_fork();
    errno = EAGAIN;
    return -1;
}

static void set_request(Guest__V1__Open *open, Guest__V1__StartProcess *start, char **argv) {
    static Guest__V1__StatFile stat_file = GUEST__V1__STAT_FILE__INIT;
    static Guest__V1__ListDirectory list = GUEST__V1__LIST_DIRECTORY__INIT;
    static Guest__V1__ReadFile read_file = GUEST__V1__READ_FILE__INIT;
    static Guest__V1__WriteFile write_file = GUEST__V1__WRITE_FILE__INIT;
    static Guest__V1__AttachProcess attach = GUEST__V1__ATTACH_PROCESS__INIT;
    static Guest__V1__SignalProcess signal_process = GUEST__V1__SIGNAL_PROCESS__INIT;
    static Guest__V1__WriteStdin write_stdin = GUEST__V1__WRITE_STDIN__INIT;
    static Guest__V1__Wake wake_request = GUEST__V1__WAKE__INIT;
    static Guest__V1__Identity identity = GUEST__V1__IDENTITY__INIT;
    static Guest__V1__PreparePause prepare = GUEST__V1__PREPARE_PAUSE__INIT;
    static Guest__V1__RemoveFile remove_file = GUEST__V1__REMOVE_FILE__INIT;
    static Guest__V1__MakeDirectory make_directory = GUEST__V1__MAKE_DIRECTORY__INIT;
    static Guest__V1__ListProcesses list_processes = GUEST__V1__LIST_PROCESSES__INIT;
    static Guest__V1__Ping ping = GUEST__V1__PING__INIT;
    static Guest__V1__GetMetrics metrics = GUEST__V1__GET_METRICS__INIT;
    static Guest__V1__Sync sync_request = GUEST__V1__SYNC__INIT;
    static Guest__V1__ConnectPort connect_port = GUEST__V1__CONNECT_PORT__INIT;
    connect_port.port = test_random() % 8 ? PORT : (uint32_t)test_random() % 70000;
    connect_port.window_bytes = test_random() % 4 ? 1 + (uint32_t)test_random() % 262144 : (uint32_t)test_random();
    uint32_t pid = agent.processes ? agent.processes->pid : 77;
    attach.pid = signal_process.pid = write_stdin.pid = pid;
    signal_process.signal = (int32_t)(test_random() % 80) - 5;
    attach.after_sequence = test_random() % 4;
    write_stdin.data = (ProtobufCBinaryData){6, (uint8_t *)"stdin\n"};
    wake_request.unix_ns = (int64_t)test_random();
    wake_request.entropy = (ProtobufCBinaryData){32, (uint8_t *)"0123456789abcdef0123456789abcdef"};
    identity.hostname = identity.generation = "other", identity.machine_id = "0123456789abcdef0123456789abcdef";
    wake_request.identity = test_random() % 2 ? &identity : NULL;
    wake_request.thaw = test_random() % 2;
    prepare.fstrim_ms = test_random() % 3, prepare.compact_memory_ms = test_random() % 3;
    prepare.freeze_ms = prepare.watchdog_ms = test_random() % 3;
    stat_file.path = list.path = read_file.path = "/home";
    write_file.path = remove_file.path = make_directory.path = "some/where";
    *start = (Guest__V1__StartProcess)GUEST__V1__START_PROCESS__INIT;
    argv[0] = "program", argv[1] = "argument";
    start->argv = argv, start->n_argv = 2, start->stdin = true, start->timeout_ms = test_random() % 3;
    open->request_case = (Guest__V1__Open__RequestCase)(2 + test_random() % 18);
    switch (open->request_case) {
        case GUEST__V1__OPEN__REQUEST_START_PROCESS: open->start_process = start; break;
        case GUEST__V1__OPEN__REQUEST_ATTACH_PROCESS: open->attach_process = &attach; break;
        case GUEST__V1__OPEN__REQUEST_SIGNAL_PROCESS: open->signal_process = &signal_process; break;
        case GUEST__V1__OPEN__REQUEST_LIST_PROCESSES: open->list_processes = &list_processes; break;
        case GUEST__V1__OPEN__REQUEST_STAT_FILE: open->stat_file = &stat_file; break;
        case GUEST__V1__OPEN__REQUEST_LIST_DIRECTORY: open->list_directory = &list; break;
        case GUEST__V1__OPEN__REQUEST_READ_FILE: open->read_file = &read_file; break;
        case GUEST__V1__OPEN__REQUEST_WRITE_FILE: open->write_file = &write_file; break;
        case GUEST__V1__OPEN__REQUEST_PING: open->ping = &ping; break;
        case GUEST__V1__OPEN__REQUEST_GET_METRICS: open->get_metrics = &metrics; break;
        case GUEST__V1__OPEN__REQUEST_PREPARE_PAUSE: open->prepare_pause = &prepare; break;
        case GUEST__V1__OPEN__REQUEST_WAKE: open->wake = &wake_request; break;
        case GUEST__V1__OPEN__REQUEST_MAKE_DIRECTORY: open->make_directory = &make_directory; break;
        case GUEST__V1__OPEN__REQUEST_REMOVE_FILE: open->remove_file = &remove_file; break;
        case GUEST__V1__OPEN__REQUEST_WRITE_STDIN: open->write_stdin = &write_stdin; break;
        case GUEST__V1__OPEN__REQUEST_CONNECT_PORT: open->connect_port = &connect_port; break;
        default:
            open->request_case = GUEST__V1__OPEN__REQUEST_SYNC;
            open->sync = &sync_request;
            break;
    }
}

// A valid frame of a random kind on a few stream ids, so that frames meet open streams.
static size_t make_frame(uint8_t *packed) {
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    Guest__V1__Hello hello = GUEST__V1__HELLO__INIT;
    Guest__V1__Open open = GUEST__V1__OPEN__INIT;
    Guest__V1__StartProcess start;
    Guest__V1__StdinChunk chunk = GUEST__V1__STDIN_CHUNK__INIT;
    Guest__V1__FileChunk file_chunk = GUEST__V1__FILE_CHUNK__INIT;
    Guest__V1__PortChunk port_chunk = GUEST__V1__PORT_CHUNK__INIT;
    Guest__V1__Credit credit = GUEST__V1__CREDIT__INIT;
    Guest__V1__Cancel cancel = GUEST__V1__CANCEL__INIT;
    static uint8_t data[MAX_DATA_BYTES];
    char *argv[2];
    frame.stream_id = (uint32_t)(test_random() % 300);
    unsigned kind = test_random() % 100;
    if (kind < 3) {
        hello.epoch = test_random();
        frame.body_case = GUEST__V1__FRAME__BODY_HELLO, frame.hello = &hello, frame.stream_id = 0;
    } else if (kind < 70) {
        set_request(&open, &start, argv);
        frame.body_case = GUEST__V1__FRAME__BODY_OPEN, frame.open = &open;
    } else if (kind < 76) {
        chunk.data = (ProtobufCBinaryData){test_random() % 40 == 0 ? sizeof data : test_random() % 50, data};
        chunk.eof = test_random() % 4 == 0;
        frame.body_case = GUEST__V1__FRAME__BODY_STDIN, frame.stdin = &chunk;
    } else if (kind < 82) {
        file_chunk.data = (ProtobufCBinaryData){test_random() % 40 == 0 ? sizeof data : test_random() % 50, data};
        file_chunk.eof = test_random() % 4 == 0;
        frame.body_case = GUEST__V1__FRAME__BODY_FILE_CHUNK, frame.file_chunk = &file_chunk;
    } else if (kind < 93) {
        port_chunk.data = (ProtobufCBinaryData){test_random() % 40 == 0 ? sizeof data : test_random() % 50, data};
        port_chunk.eof = test_random() % 8 == 0;
        frame.body_case = GUEST__V1__FRAME__BODY_PORT_CHUNK, frame.port_chunk = &port_chunk;
    } else if (kind < 96) {
        credit.bytes = (uint32_t)test_random();
        frame.body_case = GUEST__V1__FRAME__BODY_CREDIT, frame.credit = &credit;
    } else {
        frame.body_case = GUEST__V1__FRAME__BODY_CANCEL, frame.cancel = &cancel;
    }
    return guest__v1__frame__pack(&frame, packed);
}

static size_t mutate(uint8_t *bytes, size_t length, size_t room) {
    for (unsigned edits = 1 + test_random() % 4; edits > 0 && length > 0; edits--) {
        size_t at = test_random() % length;
        switch (test_random() % 4) {
            case 0: bytes[at] ^= (uint8_t)(1u << (test_random() % 8)); break;
            case 1: bytes[at] = (uint8_t)test_random(); break;
            case 2: length = at; break;
            default:
                if (length == room) break;
                memmove(bytes + at + 1, bytes + at, length - at);
                bytes[at] = (uint8_t)test_random();
                length++;
        }
    }
    return length;
}

// A program of the guest at a port: reads or does not, answers, ends one direction, resets.
static void serve_port(void) {
    static int clients[MAX_CLIENTS];
    static uint8_t bytes[5000];
    int client = accept4(port_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client >= 0) {
        int *slot = &clients[test_random() % MAX_CLIENTS];
        if (*slot > 0) close(*slot);
        *slot = client;
    }
    int *slot = &clients[test_random() % MAX_CLIENTS];
    if (*slot <= 0) return;
    switch (test_random() % 8) {
        case 0: close(*slot), *slot = -1; break;
        case 1: shutdown(*slot, SHUT_WR); break;
        case 2: shutdown(*slot, SHUT_RD); break;
        case 3: case 4: port_bytes += read(*slot, bytes, sizeof bytes) > 0; break;
        default: port_bytes += send(*slot, bytes, 1 + test_random() % sizeof bytes, MSG_NOSIGNAL) > 0;
    }
}

// The machine's own ports are none of this test's business.
static bool make_network(void) {
    struct ifreq loopback = {.ifr_name = "lo"};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (unshare(CLONE_NEWNET)) return false;
    port_listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    loopback.ifr_flags = IFF_UP;
    return port_listener >= 0 && ioctl(port_listener, SIOCSIFFLAGS, &loopback) == 0 &&
           bind(port_listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(port_listener, 64) == 0;
}

static void drain_host_end(void) {
    serve_port();
    static uint8_t bytes[65536];
    for (ssize_t got; (got = read(host_end, bytes, sizeof bytes)) > 0;) {
        for (ssize_t i = 0; i < got; i++) pongs += bytes[i] == 0;
    }
}

static void send_bytes(const uint8_t *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(host_end, bytes, length);
        if (written > 0) {
            bytes += written;
            length -= (size_t)written;
        } else {
            drain_host_end();
            agent_round(&agent, false);
        }
    }
}

static void send_input(void) {
    static uint8_t packed[MAX_FRAME_BYTES + 512], encoded[2 * MAX_FRAME_BYTES];
    size_t length = make_frame(packed);
    unsigned damage = test_random() % 10;
    // Half are damaged inside the checksum's protection, so that they reach the parser and the handlers.
    if (damage < 5) length = mutate(packed, length, sizeof packed - 16);
    size_t written = framing_encode(packed, length, encoded);
    if (damage == 5) written = mutate(encoded, written, sizeof encoded);
    send_bytes(encoded, written);
    for (int round = 0; round < ROUNDS_PER_INPUT; round++) {
        agent_round(&agent, false);
        drain_host_end();
    }
}

static bool answers_ping(void) {
    Guest__V1__Hello hello = GUEST__V1__HELLO__INIT;
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    uint8_t packed[128], encoded[256];
    frame.body_case = GUEST__V1__FRAME__BODY_HELLO, frame.hello = &hello;
    send_bytes((const uint8_t *)"", 1);
    size_t length = guest__v1__frame__pack(&frame, packed);
    send_bytes(encoded, framing_encode(packed, length, encoded));
    for (int round = 0; round < 10; round++) agent_round(&agent, false);
    drain_host_end();
    pongs = 0;
    Guest__V1__Ping ping = GUEST__V1__PING__INIT;
    Guest__V1__Open open = GUEST__V1__OPEN__INIT;
    open.request_case = GUEST__V1__OPEN__REQUEST_PING, open.ping = &ping;
    frame.stream_id = 1, frame.body_case = GUEST__V1__FRAME__BODY_OPEN, frame.open = &open;
    length = guest__v1__frame__pack(&frame, packed);
    send_bytes(encoded, framing_encode(packed, length, encoded));
    for (int round = 0; round < 10; round++) agent_round(&agent, false);
    drain_host_end();
    // Pong and End.
    return pongs == 2;
}

static bool confine(void) {
    const char *temporary = getenv("TMPDIR");
    static char directory[512];
    snprintf(directory, sizeof directory, "%s/torpor-fuzz-XXXXXX", temporary ? temporary : "/tmp");
    if (geteuid() != 0 || !mkdtemp(directory) || chdir(directory) || chmod(".", 0755)) return false;
    FILE *passwd = mkdir("etc", 0755) == 0 && mkdir("home", 0777) == 0 ? fopen("etc/passwd", "w") : NULL;
    if (!passwd || chmod("home", 0777)) return false;
    fprintf(passwd, "user:x:%d:%d::/home:/bin/sh\n", NOBODY, NOBODY);
    fclose(passwd);
    pid_t cleaner = __real_fork();
    if (cleaner > 0) {
        int status;
        waitpid(cleaner, &status, 0);
        execlp("sh", "sh", "-c", WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "rm -rf \"$1\"" : "rm -rf \"$1\"; exit 1",
               "sh", directory, NULL);
        _exit(1);
    }
    return cleaner == 0 && chroot(".") == 0 && chdir("/") == 0 && setgroups(0, NULL) == 0 &&
           setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0;
}

static bool fuzz(void) {
    int ends[2];
    if (!make_network() || !confine() || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends)) return false;
    host_end = ends[0];
    agent_initialize(&agent, ends[1]);
    if (!answers_ping()) return false;
    for (int input = 0; input < FUZZ_INPUTS; input++) send_input();
    return !agent.finished && port_bytes > 100 && answers_ping();
}

static bool hostile_frames_do_no_harm(void) {
    fflush(stdout);
    pid_t child = __real_fork();
    CHECK(child >= 0);
    if (child == 0) _exit(fuzz() ? 0 : 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return true;
}

const struct test fuzz_tests[] = {
    {"40000 valid, damaged and cut frames do no harm", hostile_frames_do_no_harm},
    {0},
};
