// torpor-shim.so: preloaded into QEMU, gives the guest's memory to the pager.
//
// QEMU maps the memfd that the agent made for the guest's RAM. Inside that very mmap call, before QEMU can touch a byte, the shim
// registers the range with userfaultfd, arms write protection when dirty pages are to be tracked, and sends the userfaultfd to the
// pager. From then on every first touch of a page is answered by the pager.
//
// Environment (all set by the agent; without TORPOR_SHIM_MEMFD_INO the shim does nothing):
//   TORPOR_SHIM_MEMFD_DEV, TORPOR_SHIM_MEMFD_INO   st_dev and st_ino of the memfd: inode numbers repeat across file systems
//   TORPOR_SHIM_SIZE                               bytes of RAM; the mapping must have exactly this size and begin at offset 0
//   TORPOR_SHIM_UFFD_DEVICE_FD                     inherited descriptor of /dev/userfaultfd: an unprivileged VMM cannot open it
//   TORPOR_SHIM_SOCKET_FD                          inherited, connected unix socket to the pager; without it nothing is loaded lazily:
//                                                  the memory of a VM that boots is only registered, so that it can be armed
//   TORPOR_SHIM_TRACK=1                            PAGEMAP_SCAN tracking is wanted
//   TORPOR_SHIM_BASE_FD                            optional: inherited descriptor of a memory file that many VMMs share; a private
//                                                  mapping of it takes the place of the VMM's own memory file, which stays empty
//
// The userfaultfd and the socket stay open in the VMM: if the pager dies, faults wait for its successor, where holes would
// otherwise read as zero; and the pager sees the end of the socket when the VMM is gone.
// What the guest gives back (balloon, free page reporting) QEMU discards in two steps: a hole in the memory file, then MADV_DONTNEED. Only
// the second one tells the pager, which could install the old bytes in between. So the hole is made by MADV_REMOVE instead: the
// kernel tells the pager first and waits until it has read that, then makes the hole.
// Whatever goes wrong ends the VMM at once with status 97: guest memory without its pager would be silently wrong.
#include "descriptor_passing.h"
#include "export.h"
#include "handshake.h"
#include "kernel_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHIM_EXIT_STATUS 97

static struct {
    bool active;
    pid_t process;
    dev_t device;
    ino_t inode;
    uint64_t size;
    int userfaultfd_device;
    int socket; // or -1: no pager
    int base;   // or -1
    bool tracking;
} shim;

// The guest's memory.
static struct {
    unsigned char *address;
    int uffd; // when the VMM's discards must be followed here (a private mapping of a base, or memory without a pager), or -1
} guest = {NULL, -1};

static atomic_bool registered;

// What this thread has just made a hole of.
static __thread struct {
    unsigned char *start;
    uint64_t length;
} removed;

_Noreturn static void fail(const char *what, int error) {
    dprintf(STDERR_FILENO, "torpor-shim: %s%s%s\n", what, error ? ": " : "", error ? strerrorname_np(error) : "");
    _exit(SHIM_EXIT_STATUS);
}

static uint64_t required_number(const char *name) {
    const char *text = getenv(name);
    char *end;
    errno = 0;
    const unsigned long long value = text && *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (!text || *text < '0' || *text > '9' || *end || errno)
        fail(name, EINVAL);
    return value;
}

static int inherited_descriptor(const char *name) {
    const uint64_t number = required_number(name);
    const int fd = number <= INT32_MAX ? (int)number : -1;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC))
        fail(name, errno);
    return fd;
}

// Programs that the VMM starts must neither load the shim nor find descriptor numbers that are not theirs.
static void clean_environment(void) {
    static const char *const names[] = {"TORPOR_SHIM_MEMFD_DEV", "TORPOR_SHIM_MEMFD_INO", "TORPOR_SHIM_SIZE",
                                        "TORPOR_SHIM_UFFD_DEVICE_FD", "TORPOR_SHIM_SOCKET_FD", "TORPOR_SHIM_TRACK",
                                        "TORPOR_SHIM_BASE_FD"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    const char *preload = getenv("LD_PRELOAD");
    char *rest = preload ? strdup(preload) : NULL, *kept = preload ? calloc(1, strlen(preload) + 1) : NULL, *state = NULL;
    if (!rest || !kept) {
        unsetenv("LD_PRELOAD");
    } else {
        for (char *entry = strtok_r(rest, " :", &state); entry; entry = strtok_r(NULL, " :", &state)) {
            if (strstr(entry, "torpor-shim"))
                continue;
            if (*kept)
                strcat(kept, ":");
            strcat(kept, entry);
        }
        if (*kept)
            setenv("LD_PRELOAD", kept, 1);
        else
            unsetenv("LD_PRELOAD");
    }
    free(rest);
    free(kept);
}

__attribute__((constructor)) static void load(void) {
    if (!getenv("TORPOR_SHIM_MEMFD_INO"))
        return;
    shim.process = getpid();
    shim.device = required_number("TORPOR_SHIM_MEMFD_DEV");
    shim.inode = required_number("TORPOR_SHIM_MEMFD_INO");
    shim.size = required_number("TORPOR_SHIM_SIZE");
    if (!shim.size || shim.size % TORPOR_PAGE_SIZE)
        fail("TORPOR_SHIM_SIZE is no multiple of the page size", 0);
    shim.userfaultfd_device = inherited_descriptor("TORPOR_SHIM_UFFD_DEVICE_FD");
    shim.socket = getenv("TORPOR_SHIM_SOCKET_FD") ? inherited_descriptor("TORPOR_SHIM_SOCKET_FD") : -1;
    shim.base = getenv("TORPOR_SHIM_BASE_FD") ? inherited_descriptor("TORPOR_SHIM_BASE_FD") : -1;
    const char *track = getenv("TORPOR_SHIM_TRACK");
    // The page table of a private mapping tells by itself which pages were written.
    shim.tracking = shim.base < 0 && track && !strcmp(track, "1");
    if (shim.socket < 0 && !shim.tracking)
        fail("there is neither a pager nor anything to track", 0);
    clean_environment();
    shim.active = true;
}

static void map_base(void *address) {
    struct stat status;
    if (fstat(shim.base, &status))
        fail("TORPOR_SHIM_BASE_FD", errno);
    if ((uint64_t)status.st_size < shim.size)
        fail("the base is shorter than the guest's memory", 0);
    const int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    if ((void *)syscall(SYS_mmap, address, shim.size, PROT_READ | PROT_WRITE, flags, shim.base, 0) == MAP_FAILED)
        fail("mapping the base", errno);
    close(shim.base);
}

static uint64_t features(void) {
    if (shim.base >= 0)
        return UFFD_FEATURE_MISSING_SHMEM;
    // Nobody would read the events of a VM without a pager, and who gives back memory would wait for ever.
    return (shim.socket < 0 ? 0 : TORPOR_UFFD_FEATURES) | (shim.tracking ? TORPOR_UFFD_TRACKING_FEATURES : 0);
}

static int create_userfaultfd(void) {
    const int uffd = ioctl(shim.userfaultfd_device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    if (uffd < 0)
        fail("USERFAULTFD_IOC_NEW", errno);
    close(shim.userfaultfd_device);
    struct uffdio_api api = {.api = UFFD_API, .features = features()};
    if (ioctl(uffd, UFFDIO_API, &api))
        fail("UFFDIO_API", errno);
    return uffd;
}

static void register_memory(int uffd, void *address) {
    const struct uffdio_range range = {(uintptr_t)address, shim.size};
    struct uffdio_register registration = {.range = range, .mode = shim.socket < 0 ? 0 : UFFDIO_REGISTER_MODE_MISSING};
    if (shim.tracking)
        registration.mode |= UFFDIO_REGISTER_MODE_WP;
    if (ioctl(uffd, UFFDIO_REGISTER, &registration))
        fail("UFFDIO_REGISTER", errno);
    // Pages that are never loaded would count as written unless the whole range is armed now. A booting guest's writes need no
    // tracking, which would slow each first one down: the first scan arms.
    struct uffdio_writeprotect protection = {.range = range, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    if (shim.socket >= 0 && shim.tracking && ioctl(uffd, UFFDIO_WRITEPROTECT, &protection))
        fail("UFFDIO_WRITEPROTECT", errno);
    // A forked child would see the mapping without its registration, and its reads would fill holes with zeros for all.
    if (syscall(SYS_madvise, address, shim.size, MADV_DONTFORK))
        fail("MADV_DONTFORK", errno);
}

static void send_handshake(int uffd, void *address) {
    const struct torpor_handshake handshake = {.regions = {{(uintptr_t)address, shim.size, 0}},
                                               .region_count = 1,
                                               .tracking = shim.tracking,
                                               .uffd_fd = uffd};
    char text[512];
    const int length = torpor_handshake_format(text, sizeof text, &handshake);
    const int error = length < 0 ? -EMSGSIZE : torpor_send_descriptors(shim.socket, text, (uint64_t)length, &uffd, 1);
    if (error)
        fail("sending the userfaultfd to the pager", -error);
}

static bool is_memory_file(int fd) {
    struct stat status;
    return shim.active && fd >= 0 && !fstat(fd, &status) && status.st_ino == shim.inode && status.st_dev == shim.device;
}

static void on_mapping(void *address, size_t length, int flags, int fd, off_t offset) {
    if (!is_memory_file(fd))
        return;
    if (getpid() != shim.process)
        return;
    const int type = flags & MAP_TYPE;
    if ((type != MAP_SHARED && type != MAP_SHARED_VALIDATE) || length != shim.size || offset)
        fail("the guest's memory is not mapped shared and whole", 0);
    // A second mapping would not be registered: its reads of holes would be silent zeros.
    if (atomic_exchange(&registered, true))
        fail("the guest's memory is mapped twice", 0);
    if (shim.base >= 0)
        map_base(address);
    const int uffd = create_userfaultfd();
    register_memory(uffd, address);
    guest.address = address;
    guest.uffd = shim.base >= 0 || shim.socket < 0 ? uffd : -1;
    if (shim.socket >= 0)
        send_handshake(uffd, address);
}

#define DISCARD_TRIES 16

// What the guest gave back is dropped from the private mapping, and the base's bytes would show there again: they may be of before the
// page was freed. It gets the page of zeros instead, which takes no memory. A neighbour's fault may map the base's page first (the
// kernel maps what is around a fault): then it is dropped again. The guest does not use the range before this call has returned.
static void zero_discarded(unsigned char *start, uint64_t length) {
    for (int tries = 0; length;) {
        struct uffdio_zeropage zero = {.range = {(uintptr_t)start, length}};
        if (!ioctl(guest.uffd, UFFDIO_ZEROPAGE, &zero))
            return;
        if (zero.zeropage > 0) {
            start += zero.zeropage;
            length -= (uint64_t)zero.zeropage;
            tries = 0;
        } else if (errno == EEXIST && ++tries < DISCARD_TRIES) {
            syscall(SYS_madvise, start, TORPOR_PAGE_SIZE, MADV_DONTNEED);
        } else if (errno == EEXIST) {
            start += TORPOR_PAGE_SIZE;
            length -= TORPOR_PAGE_SIZE;
            tries = 0;
        } else if (errno != EAGAIN) {
            fail("UFFDIO_ZEROPAGE", errno);
        }
    }
}

// What the guest gave back is zero now: that is a change, also when it is only read afterwards. Without protection the scan counts it
// as written.
static void mark_discarded(unsigned char *start, uint64_t length) {
    struct uffdio_writeprotect none = {.range = {(uintptr_t)start, length}};
    while (ioctl(guest.uffd, UFFDIO_WRITEPROTECT, &none))
        if (errno != EAGAIN)
            fail("UFFDIO_WRITEPROTECT", errno);
}

static bool is_in_guest(const unsigned char *start, uint64_t length) {
    return guest.address && start >= guest.address && length <= shim.size &&
           (uint64_t)(start - guest.address) <= shim.size - length;
}

// The second step of a discard: after MADV_REMOVE there is nothing left to drop, and the pager knows.
static bool is_removed_already(const void *address, uint64_t length) {
    const bool same = address == removed.start && length == removed.length;
    removed.start = NULL;
    return same;
}

TORPOR_EXPORT int madvise(void *address, size_t length, int advice) {
    const uint64_t whole = (length + TORPOR_PAGE_SIZE - 1) / TORPOR_PAGE_SIZE * TORPOR_PAGE_SIZE;
    const bool inside = is_in_guest(address, whole), private = shim.base >= 0;
    // Pages that are merged with others', or huge, would blur which ones are the sibling's own.
    if (inside && private && (advice == MADV_MERGEABLE || advice == MADV_HUGEPAGE))
        return 0;
    if (inside && advice == MADV_DONTNEED && is_removed_already(address, length))
        return 0;
    const int result = (int)syscall(SYS_madvise, address, length, advice);
    if (!result && inside && guest.uffd >= 0 && advice == MADV_DONTNEED)
        (private ? zero_discarded : mark_discarded)(address, whole);
    return result;
}

// Whether the hole is one of memory that a pager serves.
static bool is_guest_hole(int fd, int mode, off64_t offset, off64_t length) {
    return mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) && guest.address && guest.uffd < 0 && is_memory_file(fd) &&
           offset >= 0 && length > 0 && offset % (off64_t)TORPOR_PAGE_SIZE == 0 && length % (off64_t)TORPOR_PAGE_SIZE == 0 &&
           is_in_guest(guest.address + offset, (uint64_t)length);
}

TORPOR_EXPORT int fallocate(int fd, int mode, off_t offset, off_t length) {
    if (!is_guest_hole(fd, mode, offset, length))
        return (int)syscall(SYS_fallocate, fd, mode, offset, length);
    unsigned char *start = guest.address + offset;
    const int result = (int)syscall(SYS_madvise, start, (size_t)length, MADV_REMOVE);
    removed.start = result ? NULL : start;
    removed.length = (uint64_t)length;
    return result;
}

TORPOR_EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    return fallocate(fd, mode, offset, length);
}

TORPOR_EXPORT void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    void *result = (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
    if (result != MAP_FAILED) {
        const int saved = errno;
        on_mapping(result, length, flags, fd, offset);
        errno = saved;
    }
    return result;
}

TORPOR_EXPORT void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset) {
    return mmap(address, length, protection, flags, fd, offset);
}
