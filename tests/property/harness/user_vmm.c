// A VMM without a CPU: maps guest memory as QEMU does (with the shim preloaded, so that userfaultfd and the pager are real) and changes
// it on command, as vCPUs, devices and the balloon would.
//
//   user_vmm MEMORY_FD WINDOW_FD SIZE CONTROL_FD NAME
//
// Content travels through the window, a memfd of the same size that the test maps nothing of and that no snapshot sees. One command at a
// time: struct command in, a 64-bit reply out. A vCPU that never rests (WRITER) runs in a thread of its own while RUN is in force.
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ull
#define WRITER_PAUSE_NS 20000

enum operation {
    STORE = 1,   // window → memory by the CPU
    DEVICE_IN,   // window → memory by the kernel, as a disk's preadv does
    LOAD,        // memory → window by the CPU
    DEVICE_OUT,  // memory → window by the kernel, as a disk's pwritev does
    CLEAR,       // zeros, written
    BALLOON,     // gives the range back as QEMU's balloon does: a hole in the file, then MADV_DONTNEED
    TOUCH,       // writes the first byte of each page again: dirty, but equal
    WRITER,      // [offset, offset + length) is written page by page, over and over, while the vCPUs run; length 0: no more
    RUN,         // vCPUs on
    STOP,        // vCPUs off; reply: pages that the writer has written in all
};

struct command {
    uint64_t operation;
    uint64_t offset;
    uint64_t length;
};

static int memory_fd, window_fd;
static unsigned char *memory, *window;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool running;
static uint64_t writer_offset, writer_pages, written;

static void need(bool condition, const char *what) {
    if (condition)
        return;
    perror(what);
    _exit(1);
}

// Page `count` of the writer: its number and its words are functions of `count`, so that the test knows them, too.
static void write_page(uint64_t count) {
    uint64_t *page = (uint64_t *)(memory + writer_offset + count % writer_pages * PAGE);
    for (uint64_t word = 0; word < PAGE / sizeof *page; word++)
        page[word] = (count + 1) * 0x9e3779b97f4a7c15ull + word;
}

static void *write_on(void *unused) {
    (void)unused;
    const struct timespec pause = {.tv_nsec = WRITER_PAUSE_NS};
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!running || !writer_pages)
            pthread_cond_wait(&changed, &lock);
        write_page(written++);
        pthread_mutex_unlock(&lock);
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&lock);
    }
    return NULL;
}

static uint64_t set_running(bool value) {
    pthread_mutex_lock(&lock);
    running = value;
    const uint64_t count = written;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    return count;
}

static void set_writer(uint64_t offset, uint64_t length) {
    pthread_mutex_lock(&lock);
    writer_offset = offset;
    writer_pages = length / PAGE;
    written = 0;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void transfer(ssize_t (*move)(int, void *, size_t, off_t), const struct command *command) {
    for (uint64_t done = 0; done < command->length;) {
        const uint64_t at = command->offset + done;
        const ssize_t count = move(window_fd, memory + at, command->length - done, (off_t)at);
        need(count > 0, "transfer of a device");
        done += (uint64_t)count;
    }
}

static ssize_t device_out(int fd, void *from, size_t length, off_t at) {
    return pwrite(fd, from, length, at);
}

static uint64_t obey(const struct command *command) {
    unsigned char *start = memory + command->offset;
    switch ((enum operation)command->operation) {
    case STORE:
        memcpy(start, window + command->offset, command->length);
        return 0;
    case DEVICE_IN:
        transfer(pread, command);
        return 0;
    case LOAD:
        memcpy(window + command->offset, start, command->length);
        return 0;
    case DEVICE_OUT:
        transfer(device_out, command);
        return 0;
    case CLEAR:
        memset(start, 0, command->length);
        return 0;
    case BALLOON:
        need(!fallocate(memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)command->offset, (off_t)command->length),
             "FALLOC_FL_PUNCH_HOLE");
        need(!madvise(start, command->length, MADV_DONTNEED), "MADV_DONTNEED");
        return 0;
    case TOUCH:
        for (uint64_t at = 0; at < command->length; at += PAGE)
            *(volatile unsigned char *)(start + at) = *(volatile unsigned char *)(start + at);
        return 0;
    case WRITER:
        set_writer(command->offset, command->length);
        return 0;
    case RUN:
        return set_running(true);
    case STOP:
        return set_running(false);
    }
    need(false, "unknown command");
    return 0;
}

int main(int argc, char **argv) {
    need(argc >= 5, "usage");
    memory_fd = atoi(argv[1]);
    window_fd = atoi(argv[2]);
    const uint64_t size = strtoull(argv[3], NULL, 10);
    const int control = atoi(argv[4]);
    memory = mmap64(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    need(memory != MAP_FAILED, "mmap of the memory");
    window = mmap64(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, window_fd, 0);
    need(window != MAP_FAILED, "mmap of the window");
    pthread_t thread;
    need(!pthread_create(&thread, NULL, write_on, NULL), "thread");
    struct command command;
    while (read(control, &command, sizeof command) == sizeof command) {
        const uint64_t reply = obey(&command);
        if (write(control, &reply, sizeof reply) != sizeof reply)
            break;
    }
    return 0;
}
