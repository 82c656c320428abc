// Descriptors and files.
#include "torpor.h"

#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int result_of(int value) {
    return value < 0 ? -errno : value;
}

TORPOR_EXPORT int torpor_abi_version(void) {
    return TORPOR_ABI_VERSION;
}

TORPOR_EXPORT int torpor_memfd_create(const char *name, uint64_t size) {
    const int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)) {
        const int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

TORPOR_EXPORT int torpor_open(const char *path, uint32_t flags, uint32_t mode) {
    const uint32_t access = flags & (TORPOR_OPEN_READ | TORPOR_OPEN_WRITE);
    if (!access)
        return -EINVAL;
    int native = O_CLOEXEC | (access == TORPOR_OPEN_READ ? O_RDONLY : access == TORPOR_OPEN_WRITE ? O_WRONLY : O_RDWR);
    native |= flags & TORPOR_OPEN_CREATE ? O_CREAT : 0;
    native |= flags & TORPOR_OPEN_TRUNCATE ? O_TRUNC : 0;
    native |= flags & TORPOR_OPEN_EXCLUSIVE ? O_EXCL : 0;
    native |= flags & TORPOR_OPEN_DIRECTORY ? O_DIRECTORY : 0;
    return result_of(open(path, native, mode));
}

TORPOR_EXPORT int torpor_close(int fd) {
    return result_of(close(fd));
}

TORPOR_EXPORT int torpor_duplicate(int fd) {
    return result_of(fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

TORPOR_EXPORT int torpor_fsync(int fd) {
    return result_of(fsync(fd));
}

TORPOR_EXPORT int torpor_fsync_path(const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    const int result = torpor_fsync(fd);
    close(fd);
    return result;
}

TORPOR_EXPORT int64_t torpor_pread(int fd, void *into, uint64_t length, uint64_t offset) {
    uint64_t done = 0;
    while (done < length) {
        const ssize_t got = pread(fd, (char *)into + done, length - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (!got)
            break;
        done += (uint64_t)got;
    }
    return (int64_t)done;
}

TORPOR_EXPORT int64_t torpor_pwrite(int fd, const void *from, uint64_t length, uint64_t offset) {
    uint64_t done = 0;
    while (done < length) {
        const ssize_t put = pwrite(fd, (const char *)from + done, length - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        if (!put)
            return -EIO;
        done += (uint64_t)put;
    }
    return (int64_t)done;
}

TORPOR_EXPORT int64_t torpor_size_bytes(int fd) {
    struct stat status;
    return fstat(fd, &status) ? -errno : status.st_size;
}

TORPOR_EXPORT int64_t torpor_allocated_bytes(int fd) {
    struct stat status;
    return fstat(fd, &status) ? -errno : (int64_t)status.st_blocks * 512;
}

TORPOR_EXPORT int torpor_punch_hole(int fd, uint64_t offset, uint64_t length) {
    return result_of(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length));
}

TORPOR_EXPORT int torpor_identity(int fd, uint64_t *identity) {
    struct stat status;
    if (fstat(fd, &status))
        return -errno;
    identity[0] = status.st_dev;
    identity[1] = status.st_ino;
    return 0;
}

TORPOR_EXPORT int torpor_open_userfaultfd_device(void) {
    return result_of(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
}

TORPOR_EXPORT void torpor_free(void *memory) {
    free(memory);
}
