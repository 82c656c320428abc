// Pages written, or loaded, since the marks were cleared, from the soft-dirty bits of a VMM's page table: for kernels before 6.7 that
// have CONFIG_MEM_SOFT_DIRTY. Without it the kernel takes every call and reports no page: only the self-test tells.
#include "torpor.h"

#include "export.h"
#include "kernel_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENTRIES 8192u
#define SOFT_DIRTY (1ull << 55)
#define PRESENT (1ull << 63)

static int open_of(int pid, const char *name, int flags) {
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    const int fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

TORPOR_EXPORT int torpor_clear_soft_dirty(int pid) {
    const int fd = open_of(pid, "clear_refs", O_WRONLY);
    if (fd < 0)
        return fd;
    const int error = write(fd, "4", 1) == 1 ? 0 : -errno;
    close(fd);
    return error;
}

// A page that has no entry counts, too: the kernel may have dropped its entry, and the mark with it.
static int64_t read_marks(int pagemap, uint64_t address, uint64_t pages, uint8_t *bitmap, uint64_t *entries) {
    int64_t marked = 0;
    for (uint64_t first = 0; first < pages; first += ENTRIES) {
        const uint64_t count = pages - first < ENTRIES ? pages - first : ENTRIES;
        const uint64_t offset = (address / TORPOR_PAGE_SIZE + first) * sizeof *entries;
        const int64_t got = torpor_pread(pagemap, entries, count * sizeof *entries, offset);
        if (got != (int64_t)(count * sizeof *entries))
            return got < 0 ? got : -ENODATA;
        for (uint64_t i = 0; i < count; i++) {
            if ((entries[i] & PRESENT) && !(entries[i] & SOFT_DIRTY))
                continue;
            bitmap[(first + i) / 8] |= (uint8_t)(1u << (first + i) % 8);
            marked++;
        }
    }
    return marked;
}

TORPOR_EXPORT int64_t torpor_soft_dirty_pages(int pid, uint64_t address, uint64_t size, uint8_t *bitmap) {
    uint64_t end;
    if (!address || address % TORPOR_PAGE_SIZE || !size || size % TORPOR_PAGE_SIZE || __builtin_add_overflow(address, size, &end))
        return -EINVAL;
    const int pagemap = open_of(pid, "pagemap", O_RDONLY);
    if (pagemap < 0)
        return pagemap;
    uint64_t *entries = malloc(ENTRIES * sizeof *entries);
    const int64_t marked = entries ? read_marks(pagemap, address, size / TORPOR_PAGE_SIZE, bitmap, entries) : -ENOMEM;
    free(entries);
    close(pagemap);
    return marked;
}

// --- the self test, in a child: clearing the marks of all of this process would slow it down ---

#define TEST_PAGES 8u
#define TEST_BYTES (TEST_PAGES * TORPOR_PAGE_SIZE)

// 1 when exactly the page written after the clearing is marked. The child of a process with threads: system calls only.
static int mark_one_write(unsigned char *memory) {
    for (unsigned page = 0; page < TEST_PAGES; page++)
        *(volatile unsigned char *)(memory + page * TORPOR_PAGE_SIZE) = 1;
    const int clear_refs = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (clear_refs < 0 || pagemap < 0 || write(clear_refs, "4", 1) != 1)
        return 0;
    *(volatile unsigned char *)(memory + 3 * TORPOR_PAGE_SIZE) = 2;
    uint64_t entries[TEST_PAGES];
    const off_t offset = (off_t)((uintptr_t)memory / TORPOR_PAGE_SIZE * sizeof *entries);
    if (pread(pagemap, entries, sizeof entries, offset) != sizeof entries)
        return 0;
    for (unsigned page = 0; page < TEST_PAGES; page++)
        if (!(entries[page] & PRESENT) || !(entries[page] & SOFT_DIRTY) != (page != 3))
            return 0;
    return 1;
}

static int test_in_child(unsigned char *memory) {
    const pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (!pid)
        _exit(mark_one_write(memory) ? 0 : 1);
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && !WEXITSTATUS(status);
}

TORPOR_EXPORT int torpor_soft_dirty_supported(void) {
    const int memfd = torpor_memfd_create("torpor-selftest", TEST_BYTES);
    if (memfd < 0)
        return memfd;
    unsigned char *memory = mmap(NULL, TEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    const int result = memory == MAP_FAILED ? -errno : test_in_child(memory);
    if (memory != MAP_FAILED)
        munmap(memory, TEST_BYTES);
    close(memfd);
    return result;
}
