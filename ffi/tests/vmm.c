// A stand-in for a VMM, to be run with the shim preloaded: maps its memory and obeys commands.
//   vmm run MEMFD RESULT_FD SIZE CONTROL_FD      vmm inspect (prints what a spawned process can see)
#include "vmm.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ull
#define MAX_THREADS 64

static int memfd;
static unsigned char *memory, *result;
static struct vmm_command command;
static pthread_t threads[MAX_THREADS];
static unsigned thread_count;
static unsigned long long sum;

static void need(int condition, const char *what) {
    if (!condition) {
        perror(what);
        _exit(1);
    }
}

static void *copy_share(void *argument) {
    const uint64_t first = (uintptr_t)argument, step = command.argument, pages = command.length / PAGE;
    // A stride that has no common factor with the number of pages visits each of them once, in a scattered order.
    uint64_t stride = pages / 2 + 1;
    while (pages % 2 == 0 && stride % 2 == 0)
        stride++;
    uint64_t a = stride, b = pages;
    while (b) {
        const uint64_t t = a % b;
        a = b, b = t;
    }
    if (a != 1)
        stride = 1;
    for (uint64_t i = first; i < pages; i += step) {
        const uint64_t at = command.offset + (i * stride % pages) * PAGE;
        memcpy(result + at, memory + at, PAGE);
    }
    return NULL;
}

static void start(void *(*run)(void *), uintptr_t argument) {
    need(thread_count < MAX_THREADS && !pthread_create(&threads[thread_count++], NULL, run, (void *)argument), "thread");
}

static void join_all(void) {
    while (thread_count)
        pthread_join(threads[--thread_count], NULL);
}

static void *touch(void *argument) {
    __atomic_add_fetch(&sum, *(volatile unsigned char *)(memory + (uintptr_t)argument), __ATOMIC_SEQ_CST);
    return NULL;
}

static void punch(const struct vmm_command *range) {
    need(!fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)range->offset, (off_t)range->length), "punch");
}

static void *punch_range(void *argument) {
    punch(argument);
    return NULL;
}

static void *remove_range(void *argument) {
    const struct vmm_command *range = argument;
    need(!madvise(memory + range->offset, range->length, MADV_REMOVE), "MADV_REMOVE");
    return NULL;
}

static uint64_t signal_of_forked_reader(void) {
    const pid_t pid = fork();
    if (!pid) {
        _exit(*(volatile unsigned char *)(memory + command.offset) ? 0 : 0);
    }
    int status;
    need(waitpid(pid, &status, 0) == pid, "waitpid");
    return WIFSIGNALED(status) ? (uint64_t)WTERMSIG(status) : 0;
}

static uint64_t obey(void) {
    static struct vmm_command background;
    const uint64_t end = command.offset + command.length;
    uint64_t total = 0;
    switch ((enum vmm_operation)command.operation) {
    case VMM_ADDRESS:
        return (uintptr_t)memory;
    case VMM_COPY_OUT:
        for (uintptr_t i = 0; i < command.argument; i++)
            start(copy_share, i);
        join_all();
        return 0;
    case VMM_READ:
        for (uint64_t at = command.offset; at < end; at += PAGE)
            total += *(volatile unsigned char *)(memory + at);
        return total;
    case VMM_WRITE:
        for (uint64_t at = command.offset; at < end; at += PAGE)
            *(volatile unsigned char *)(memory + at) = (unsigned char)command.argument;
        return 0;
    case VMM_TOUCH:
        for (uint64_t at = command.offset; at < end; at += PAGE)
            start(touch, at);
        return 0;
    case VMM_JOIN:
        join_all();
        total = sum;
        sum = 0;
        return total;
    case VMM_DISCARD:
        punch(&command);
        need(!madvise(memory + command.offset, command.length, MADV_DONTNEED), "MADV_DONTNEED");
        return 0;
    case VMM_PUNCH:
        background = command;
        start(punch_range, (uintptr_t)&background);
        return 0;
    case VMM_DONTNEED:
        need(!madvise(memory + command.offset, command.length, MADV_DONTNEED), "MADV_DONTNEED");
        return 0;
    case VMM_REMOVE:
        remove_range(&command);
        return 0;
    case VMM_REMOVE_START:
        background = command;
        start(remove_range, (uintptr_t)&background);
        return 0;
    case VMM_ENVIRONMENT:
        return getenv("LD_PRELOAD") || getenv("TORPOR_SHIM_MEMFD_INO") || getenv("TORPOR_SHIM_SOCKET_FD");
    case VMM_FORK:
        return signal_of_forked_reader();
    }
    return UINT64_MAX;
}

static int run(char **argv) {
    memfd = atoi(argv[2]);
    const int result_fd = atoi(argv[3]), control = atoi(argv[5]);
    const uint64_t size = strtoull(argv[4], NULL, 10);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    memory = mmap64(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    need(memory != MAP_FAILED, "mmap of the memory");
    result = mmap64(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, result_fd, 0);
    need(result != MAP_FAILED, "mmap of the result");
    while (read(control, &command, sizeof command) == sizeof command) {
        const uint64_t reply = obey();
        if (write(control, &reply, sizeof reply) != sizeof reply)
            break;
    }
    return 0;
}

static int inspect(void) {
    DIR *directory = opendir("/proc/self/fd");
    printf("fds");
    for (int fd = 0; fd < 256; fd++)
        if (fd != dirfd(directory) && fcntl(fd, F_GETFD) >= 0)
            printf(" %d", fd);
    closedir(directory);
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    int blocked = 0, ignored = 0;
    for (int number = 1; number < 65; number++) {
        struct sigaction action = {0};
        blocked += sigismember(&mask, number) == 1;
        ignored += !sigaction(number, NULL, &action) && action.sa_handler == SIG_IGN;
    }
    int death = 0;
    prctl(PR_GET_PDEATHSIG, &death);
    char cwd[256];
    printf("\nsession %d\nblocked %d ignored %d\nuid %d gid %d nnp %d death %d\ncwd %s\nenv %s\n", getsid(0) == getpid(), blocked,
           ignored, getuid(), getgid(), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), death, getcwd(cwd, sizeof cwd) ? cwd : "?",
           getenv("MARK") ? getenv("MARK") : "");
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 5 && !strcmp(argv[1], "run"))
        return run(argv);
    return inspect();
}
