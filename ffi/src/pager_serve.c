// The pager's event loop and fault path. Nothing here allocates, locks or logs.
//
// Order matters in one place. The kernel hands out page faults before REMOVE events, and refuses UFFDIO_COPY with EAGAIN as long as
// a REMOVE has not been read. So a fault that gets EAGAIN reads all events first, then decides again whether its page is zero.
// A page that the guest gave back counts as zero from the moment its event is read, also for the next diff: the bitmap in the
// statistics memfd says so. The shim has the event come before the hole is made: what was installed before that is dropped with the hole,
// what is installed later is zero, so no window, prefetch or neighbour's fault brings old bytes back.
#include "kernel_compat.h"
#include "page_bits.h"
#include "pager.h"
#include "pager_counters.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 64
#ifndef PENDING_CAPACITY // tests build a pager with a small one, so that it overflows
#define PENDING_CAPACITY 1024u
#endif

enum outcome { DONE, AGAIN, GONE, FAILED };

struct span {
    uint64_t start; // guest offsets
    uint64_t end;
    bool zero;
};

struct pending_fault {
    uint64_t address;
    uint64_t read_ns;
};

static struct uffd_msg batch[BATCH];
static struct pending_fault pending[PENDING_CAPACITY];
static uint32_t pending_head, pending_count;

static const struct torpor_region *region_of(const struct torpor_pager *pager, uint64_t address) {
    for (uint32_t i = 0; i < pager->handshake.region_count; i++) {
        const struct torpor_region *region = &pager->handshake.regions[i];
        if (address >= region->base_host_virt_addr && address - region->base_host_virt_addr < region->size)
            return region;
    }
    return NULL;
}

static bool wake(struct torpor_pager *pager, uint64_t address, uint64_t length) {
    struct uffdio_range range = {address, length};
    return !ioctl(pager->uffd, UFFDIO_WAKE, &range);
}

static enum outcome fail(struct torpor_pager *pager, int status, const char *what, int error) {
    atomic_store(&pager->stats->error, (uint32_t)torpor_pager_fail(pager, status, what, error));
    return FAILED;
}

static enum outcome mark_removed(struct torpor_pager *pager, uint64_t start, uint64_t end) {
    _Atomic uint64_t *removed = torpor_pager_stats_removed(pager->stats);
    for (uint64_t address = start; address < end; address += TORPOR_PAGE_SIZE) {
        const struct torpor_region *region = region_of(pager, address);
        if (!region)
            return fail(pager, TORPOR_PAGER_USERFAULTFD, "REMOVE outside the guest's memory", 0);
        const uint64_t page = (region->offset + address - region->base_host_virt_addr) / TORPOR_PAGE_SIZE;
        atomic_fetch_or_explicit(&removed[page / 64], 1ull << (page % 64), memory_order_relaxed);
        set_bits(pager->present, page, 1, false);
    }
    add(&pager->stats->removes, 1);
    add(&pager->stats->removed_pages, (end - start) / TORPOR_PAGE_SIZE);
    return DONE;
}

static enum outcome take_event(struct torpor_pager *pager, const struct uffd_msg *event, uint64_t read_ns) {
    if (event->event == UFFD_EVENT_REMOVE)
        return mark_removed(pager, event->arg.remove.start, event->arg.remove.end);
    if (event->event != UFFD_EVENT_PAGEFAULT || event->arg.pagefault.flags & (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_MINOR))
        return fail(pager, TORPOR_PAGER_USERFAULTFD, "unexpected userfaultfd event", 0);
    const uint64_t address = event->arg.pagefault.address & ~(TORPOR_PAGE_SIZE - 1);
    if (pending_count == PENDING_CAPACITY) // the thread faults again, and its event comes back
        return wake(pager, address, TORPOR_PAGE_SIZE) ? DONE : fail(pager, TORPOR_PAGER_USERFAULTFD, "UFFDIO_WAKE", errno);
    pending[(pending_head + pending_count++) % PENDING_CAPACITY] = (struct pending_fault){address, read_ns};
    return DONE;
}

static enum outcome read_events(struct torpor_pager *pager) {
    const ssize_t bytes = read(pager->uffd, batch, sizeof batch);
    if (bytes < 0)
        return errno == EAGAIN || errno == EINTR ? DONE : fail(pager, TORPOR_PAGER_USERFAULTFD, "reading events", errno);
    const uint64_t read_ns = now_ns();
    for (size_t i = 0; i < (size_t)bytes / sizeof *batch; i++) {
        const enum outcome outcome = take_event(pager, &batch[i], read_ns);
        if (outcome != DONE)
            return outcome;
    }
    return DONE;
}

static bool is_zero(struct torpor_pager *pager, uint64_t offset) {
    const uint64_t page = offset / TORPOR_PAGE_SIZE;
    if (atomic_load_explicit(&torpor_pager_stats_removed(pager->stats)[page / 64], memory_order_relaxed) >> (page % 64) & 1)
        return true;
    pager->extent_hint = torpor_extent_find(&pager->header, offset, pager->extent_hint);
    return pager->header.extents[pager->extent_hint].source == TORPOR_SOURCE_ZERO;
}

static bool is_alike(struct torpor_pager *pager, const struct span *span, uint64_t offset) {
    return !get_bit(pager->present, offset / TORPOR_PAGE_SIZE) && is_zero(pager, offset) == span->zero;
}

// The page at `offset` and those around it that are of the same kind and not known to be present, inside its aligned window and its
// region.
static struct span span_around(struct torpor_pager *pager, const struct torpor_region *region, uint64_t offset) {
    const uint64_t window = offset - offset % pager->fault_around_bytes;
    const uint64_t region_end = region->offset + region->size;
    const uint64_t first = window > region->offset ? window : region->offset;
    const uint64_t last = region_end - window < pager->fault_around_bytes ? region_end : window + pager->fault_around_bytes;
    struct span span = {offset, offset + TORPOR_PAGE_SIZE, is_zero(pager, offset)};
    if (get_bit(pager->present, offset / TORPOR_PAGE_SIZE))
        return span; // most likely another fault of this window was answered first
    while (span.start > first && is_alike(pager, &span, span.start - TORPOR_PAGE_SIZE))
        span.start -= TORPOR_PAGE_SIZE;
    while (span.end < last && is_alike(pager, &span, span.end))
        span.end += TORPOR_PAGE_SIZE;
    return span;
}

// One ioctl. Returns the bytes installed, or the negative errno.
static int64_t install_once(struct torpor_pager *pager, uint64_t address, const unsigned char *source, uint64_t length) {
    if (!source) {
        struct uffdio_zeropage zero = {.range = {address, length}};
        return ioctl(pager->uffd, UFFDIO_ZEROPAGE, &zero) ? (zero.zeropage ? zero.zeropage : -errno) : (int64_t)length;
    }
    struct uffdio_copy copy = {.dst = address,
                               .src = (uintptr_t)source,
                               .len = length,
                               .mode = pager->handshake.tracking ? UFFDIO_COPY_MODE_WP : 0};
    return ioctl(pager->uffd, UFFDIO_COPY, &copy) ? (copy.copy ? copy.copy : -errno) : (int64_t)length;
}

// Installs the span at `address` and wakes who waits for it. `installed` counts the pages.
static enum outcome install(struct torpor_pager *pager, const struct span *span, uint64_t address, const unsigned char *source,
                            uint64_t *installed) {
    const uint64_t first_page = span->start / TORPOR_PAGE_SIZE, length = span->end - span->start;
    for (uint64_t done = 0; done < length;) {
        const int64_t result = install_once(pager, address + done, source ? source + done : NULL, length - done);
        const uint64_t page = first_page + done / TORPOR_PAGE_SIZE;
        if (result > 0) {
            set_bits(pager->present, page, (uint64_t)result / TORPOR_PAGE_SIZE, true);
            *installed += (uint64_t)result / TORPOR_PAGE_SIZE;
            done += (uint64_t)result;
        } else if (result == -EEXIST) {
            set_bits(pager->present, page, 1, true);
            add(&pager->stats->eexist, 1);
            if (!wake(pager, address + done, TORPOR_PAGE_SIZE))
                return fail(pager, TORPOR_PAGER_USERFAULTFD, "UFFDIO_WAKE", errno);
            done += TORPOR_PAGE_SIZE;
        } else if (result == -EAGAIN) {
            add(&pager->stats->eagain, 1);
            return AGAIN;
        } else if (result == -ESRCH) {
            return GONE;
        } else {
            return fail(pager, TORPOR_PAGER_USERFAULTFD, "installing pages", (int)-result);
        }
    }
    return DONE;
}

static void count_fault(struct torpor_pager *pager, const struct span *span, uint64_t installed, uint64_t offset, uint64_t read_ns) {
    struct torpor_pager_stats *stats = pager->stats;
    const uint64_t page = offset / TORPOR_PAGE_SIZE;
    add(span->zero ? &stats->zero_pages_served : &stats->data_pages_served, installed);
    add(&stats->fault_around_pages, installed ? installed - 1 : 0);
    count_answer(stats, span->zero, read_ns);
    note_order(stats, pager->seen, page, read_ns);
}

// Reads the span and installs it; `installed` counts the pages.
static enum outcome load(struct torpor_pager *pager, const struct torpor_region *region, const struct span *span, uint64_t *installed) {
    // UFFDIO_ZEROPAGE cannot write-protect, so zero pages of a tracked guest are copied.
    const unsigned char *source = !span->zero ? pager->buffer : pager->handshake.tracking ? pager->zero : NULL;
    if (!span->zero) {
        const int status = torpor_pager_read(pager, span->start, span->end - span->start);
        if (status)
            return fail(pager, status, pager->failure, pager->failure_errno);
    }
    return install(pager, span, region->base_host_virt_addr + span->start - region->offset, source, installed);
}

static enum outcome serve_fault(struct torpor_pager *pager, const struct pending_fault *fault) {
    const struct torpor_region *region = region_of(pager, fault->address);
    if (!region)
        return fail(pager, TORPOR_PAGER_USERFAULTFD, "fault outside the guest's memory", 0);
    const uint64_t offset = region->offset + fault->address - region->base_host_virt_addr;
    const struct span span = span_around(pager, region, offset);
    uint64_t installed = 0;
    const enum outcome outcome = load(pager, region, &span, &installed);
    if (outcome == DONE)
        count_fault(pager, &span, installed, offset, fault->read_ns);
    return outcome;
}

static enum outcome serve_pending(struct torpor_pager *pager) {
    while (pending_count) {
        enum outcome outcome = serve_fault(pager, &pending[pending_head]);
        if (outcome == AGAIN) {
            outcome = read_events(pager);
            sched_yield(); // until the thread that removes pages has seen that its event was read
        } else if (outcome == DONE) {
            pending_head = (pending_head + 1) % PENDING_CAPACITY;
            pending_count--;
        }
        if (outcome != DONE)
            return outcome;
    }
    return DONE;
}

static const struct torpor_region *region_at(const struct torpor_pager *pager, uint64_t offset) {
    for (uint32_t i = 0; i < pager->handshake.region_count; i++) {
        const struct torpor_region *region = &pager->handshake.regions[i];
        if (offset >= region->offset && offset - region->offset < region->size)
            return region;
    }
    return NULL;
}

static bool has_working_set(const struct torpor_pager *pager) {
    return pager->prefetch_next < pager->prefetch.count;
}

static bool prefetching(const struct torpor_pager *pager) {
    return has_working_set(pager) || prefetch_waits(&pager->queue);
}

// Looks at the next page. Returns its region when it is to be installed: a page of the working set as it is, one that was asked for only
// when it has bytes.
static const struct torpor_region *next_page(struct torpor_pager *pager, uint64_t *offset, bool asked) {
    *offset = TORPOR_PAGE_SIZE * (asked ? prefetch_take(&pager->queue) : pager->prefetch.pages[pager->prefetch_next++]);
    if (get_bit(pager->present, *offset / TORPOR_PAGE_SIZE) || (asked && is_zero(pager, *offset)))
        return NULL;
    return region_at(pager, *offset);
}

#define PAGES_PER_LOOK 256

// Installs one window of what is to be fetched ahead, so that a fault waits for one window at most.
static enum outcome prefetch_once(struct torpor_pager *pager) {
    uint64_t offset = 0;
    const struct torpor_region *region = NULL;
    bool asked = false;
    for (int looked = 0; !region && looked < PAGES_PER_LOOK && prefetching(pager); looked++) {
        asked = !has_working_set(pager);
        region = next_page(pager, &offset, asked);
    }
    enum outcome outcome = DONE;
    if (region) {
        const struct span span = span_around(pager, region, offset);
        uint64_t installed = 0;
        outcome = load(pager, region, &span, &installed);
        add(&pager->stats->prefetched_pages, installed);
        if (outcome == AGAIN) { // a REMOVE waits to be read: the page is looked at again after that
            if (asked)
                pager->queue.next--;
            else
                pager->prefetch_next--;
            outcome = DONE;
        }
    }
    if (!asked && !has_working_set(pager))
        atomic_store(&pager->stats->prefetch_end_ns, now_ns());
    return outcome;
}

static bool socket_ended(int socket) {
    char discarded[64];
    const ssize_t got = recv(socket, discarded, sizeof discarded, MSG_DONTWAIT);
    return !got || (got < 0 && errno != EAGAIN && errno != EINTR);
}

static enum outcome serve_once(struct torpor_pager *pager) {
    // With a pidfd the socket may end without the VMM being gone (an agent that handed over the userfaultfd).
    struct pollfd events[] = {{.fd = pager->uffd, .events = POLLIN},
                              {.fd = pager->signals, .events = POLLIN},
                              {.fd = pager->vmm_pidfd, .events = POLLIN},
                              {.fd = pager->vmm_pidfd < 0 ? pager->socket : -1, .events = POLLIN},
                              {.fd = pager->queue.wake, .events = POLLIN}};
    eventfd_t puts;
    if (poll(events, sizeof events / sizeof *events, prefetching(pager) ? 0 : -1) < 0)
        return errno == EINTR ? DONE : fail(pager, TORPOR_PAGER_USERFAULTFD, "poll", errno);
    if (events[1].revents || events[2].revents || (events[3].revents && socket_ended(pager->socket)))
        return GONE;
    if (events[0].revents & (POLLERR | POLLNVAL))
        return fail(pager, TORPOR_PAGER_USERFAULTFD, "userfaultfd is unusable", 0);
    if (events[4].revents)
        (void)eventfd_read(pager->queue.wake, &puts);
    if (!events[0].revents)
        return prefetching(pager) ? prefetch_once(pager) : DONE;
    const enum outcome outcome = read_events(pager);
    return outcome == DONE ? serve_pending(pager) : outcome;
}

int torpor_pager_serve(struct torpor_pager *pager) {
    // Faults that an earlier pager had read, but not answered, are delivered again.
    for (uint32_t i = 0; i < pager->handshake.region_count; i++) {
        const struct torpor_region *region = &pager->handshake.regions[i];
        if (!wake(pager, region->base_host_virt_addr, region->size))
            return errno == ESRCH ? TORPOR_PAGER_OK
                                  : torpor_pager_fail(pager, TORPOR_PAGER_USERFAULTFD, "UFFDIO_WAKE", errno);
    }
    atomic_store(&pager->stats->state, TORPOR_PAGER_SERVING);
    enum outcome outcome;
    do
        outcome = serve_once(pager);
    while (outcome == DONE);
    return outcome == GONE ? TORPOR_PAGER_OK : (int)atomic_load(&pager->stats->error);
}
