// The base: a sparse memory file that gets each page of the snapshot once, when the first sibling needs it.
//
// It is filled by UFFDIO_COPY through a registered mapping of our own: the kernel publishes the page with its content, where a store
// through the mapping would publish a page of zeros first. Once that mapping exists the file is sealed: no one, root included, can
// write to it, shrink it or map it writable again, so a sibling that was taken over cannot change what the others read. A mapping that
// was there before stays writable, and a forked process inherits it: that is how a server's successor goes on filling the base. When
// all that had it are gone, nobody can; pages are then copied to the sibling that asks (`sealed`).
#include "base_pager.h"

#include "kernel_compat.h"
#include "page_bits.h"
#include "pager_counters.h"
#include "torpor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

int torpor_base_open(struct torpor_base *base) {
    struct torpor_pager *reader = &base->reader;
    const uint64_t size = reader->header.size_bytes;
    struct stat status;
    const int seals = fcntl(base->base_fd, F_GET_SEALS);
    if (fstat(base->base_fd, &status) || seals < 0)
        return torpor_pager_fail(reader, TORPOR_PAGER_USAGE, "the base is no memfd that can be sealed", errno);
    if ((uint64_t)status.st_size != size || !(seals & F_SEAL_SHRINK))
        return torpor_pager_fail(reader, TORPOR_PAGER_USAGE, "the base has another size than the header, or can shrink", 0);
    base->sealed = seals & F_SEAL_FUTURE_WRITE;
    if (base->sealed)
        return 0;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, base->base_fd, 0);
    if (memory == MAP_FAILED)
        return torpor_pager_fail(reader, TORPOR_PAGER_USAGE, "mapping the base", errno);
    base->memory = memory;
    if (fcntl(base->base_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        return torpor_pager_fail(reader, TORPOR_PAGER_USAGE, "sealing the base", errno);
    return 0;
}

int torpor_base_register(struct torpor_base *base) {
    struct torpor_pager *reader = &base->reader;
    const uint64_t size = reader->header.size_bytes;
    if (base->sealed)
        return 0;
    base->uffd = ioctl(base->userfaultfd_device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    if (base->uffd < 0)
        return torpor_pager_fail(reader, TORPOR_PAGER_USERFAULTFD, "USERFAULTFD_IOC_NEW", errno);
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM};
    struct uffdio_register registration = {.range = {(uintptr_t)base->memory, size}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(base->uffd, UFFDIO_API, &api) || ioctl(base->uffd, UFFDIO_REGISTER, &registration))
        return torpor_pager_fail(reader, TORPOR_PAGER_USERFAULTFD, "registering the base", errno);
    const int64_t present = torpor_present_pages(base->base_fd, size, (uint8_t *)base->filled);
    return present < 0 ? torpor_pager_fail(reader, TORPOR_PAGER_USAGE, "reading what the base has", (int)-present) : 0;
}

bool torpor_base_is_zero(struct torpor_base *base, uint64_t offset) {
    struct torpor_pager *reader = &base->reader;
    reader->extent_hint = torpor_extent_find(&reader->header, offset, reader->extent_hint);
    return reader->header.extents[reader->extent_hint].source == TORPOR_SOURCE_ZERO;
}

static bool is_missing(struct torpor_base *base, uint64_t offset) {
    return !get_bit(base->filled, offset / TORPOR_PAGE_SIZE) && !torpor_base_is_zero(base, offset);
}

static int install(struct torpor_base *base, uint64_t start, uint64_t length) {
    struct torpor_pager *reader = &base->reader;
    for (uint64_t done = 0; done < length;) {
        // Siblings wait at their own mappings: nobody is to be woken here.
        struct uffdio_copy copy = {.dst = (uintptr_t)base->memory + start + done,
                                   .src = (uintptr_t)reader->buffer + done,
                                   .len = length - done,
                                   .mode = UFFDIO_COPY_MODE_DONTWAKE};
        int64_t result = ioctl(base->uffd, UFFDIO_COPY, &copy) ? (copy.copy ? copy.copy : -errno) : (int64_t)copy.len;
        if (result == -EAGAIN)
            continue;
        if (result == -EEXIST) // a page is published whole: whoever did it, it is there
            result = TORPOR_PAGE_SIZE;
        if (result <= 0)
            return torpor_pager_fail(reader, TORPOR_PAGER_USERFAULTFD, "filling the base", (int)-result);
        set_bits(base->filled, (start + done) / TORPOR_PAGE_SIZE, (uint64_t)result / TORPOR_PAGE_SIZE, true);
        done += (uint64_t)result;
    }
    return 0;
}

int torpor_base_fill(struct torpor_base *base, uint64_t offset, uint64_t *pages) {
    struct torpor_pager *reader = &base->reader;
    *pages = 0;
    if (get_bit(base->filled, offset / TORPOR_PAGE_SIZE))
        return 0;
    const uint64_t first = offset - offset % reader->fault_around_bytes;
    const uint64_t rest = reader->header.size_bytes - first;
    const uint64_t last = first + (rest < reader->fault_around_bytes ? rest : reader->fault_around_bytes);
    uint64_t start = offset, end = offset + TORPOR_PAGE_SIZE;
    while (start > first && is_missing(base, start - TORPOR_PAGE_SIZE))
        start -= TORPOR_PAGE_SIZE;
    while (end < last && is_missing(base, end))
        end += TORPOR_PAGE_SIZE;
    int error = torpor_pager_read(reader, start, end - start);
    if (!error)
        error = install(base, start, end - start);
    if (!error)
        *pages = (end - start) / TORPOR_PAGE_SIZE;
    return error;
}

static bool has_working_set(const struct torpor_base *base) {
    return base->reader.prefetch_next < base->reader.prefetch.count;
}

// A page that is looked at costs no time that a fault would notice; one that is read does.
#define PAGES_PER_LOOK 256

bool torpor_base_prefetch(struct torpor_base *base, int *status) {
    struct torpor_pager *reader = &base->reader;
    *status = 0;
    bool waits = true;
    for (int looked = 0; looked < PAGES_PER_LOOK && (waits = has_working_set(base) || prefetch_waits(&reader->queue)); looked++) {
        const uint64_t page = has_working_set(base) ? reader->prefetch.pages[reader->prefetch_next++] : prefetch_take(&reader->queue);
        if (base->sealed || !is_missing(base, page * TORPOR_PAGE_SIZE))
            continue;
        uint64_t pages;
        *status = torpor_base_fill(base, page * TORPOR_PAGE_SIZE, &pages);
        add(&reader->stats->prefetched_pages, pages);
        return true;
    }
    if (!waits && reader->prefetch.count && !reader->stats->prefetch_end_ns)
        reader->stats->prefetch_end_ns = now_ns();
    return waits;
}
