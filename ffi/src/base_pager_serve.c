// The base pager's event loop and fault path. Nothing here allocates, locks or logs (but for siblings that come or leave).
//
// A fault of a sibling means that its page is in no page table and, for data, was not in the base when the kernel looked. Data: the
// base is filled and the sibling woken; the kernel then maps the page from the base, as it does without any fault for all that are in
// the base already. Zero: the sibling gets the kernel's page of zeros, which takes no memory; the base keeps its hole.
#include "base_pager.h"

#include "kernel_compat.h"
#include "page_bits.h"
#include "pager_counters.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 64
#define EVENTS 64

static struct uffd_msg batch[BATCH];
static struct epoll_event events[EVENTS];

static bool wake(struct torpor_base *base, struct torpor_sibling *sibling, uint64_t offset) {
    struct uffdio_range range = {sibling->address + offset, TORPOR_PAGE_SIZE};
    if (!ioctl(sibling->uffd, UFFDIO_WAKE, &range))
        return true;
    torpor_sibling_leave(base, sibling, errno == ESRCH ? NULL : "UFFDIO_WAKE", errno);
    return false;
}

// One page, or with `source` NULL a range of zeros, for one sibling alone. Returns the bytes installed, or the negative errno.
static int64_t install_once(struct torpor_sibling *sibling, uint64_t offset, const unsigned char *source, uint64_t length) {
    if (!source) {
        struct uffdio_zeropage zero = {.range = {sibling->address + offset, length}};
        return ioctl(sibling->uffd, UFFDIO_ZEROPAGE, &zero) ? (zero.zeropage ? zero.zeropage : -errno) : (int64_t)length;
    }
    struct uffdio_copy copy = {.dst = sibling->address + offset, .src = (uintptr_t)source, .len = length};
    return ioctl(sibling->uffd, UFFDIO_COPY, &copy) ? (copy.copy ? copy.copy : -errno) : (int64_t)length;
}

// Installs and wakes. Returns the number of pages installed; on failure the sibling has left.
static uint64_t install(struct torpor_base *base, struct torpor_sibling *sibling, uint64_t offset, const unsigned char *source,
                        uint64_t length) {
    uint64_t pages = 0;
    while (length && !sibling->left) {
        const int64_t result = install_once(sibling, offset, source, length);
        uint64_t step = TORPOR_PAGE_SIZE;
        if (result > 0) {
            step = (uint64_t)result;
            pages += step / TORPOR_PAGE_SIZE;
        } else if (result == -EEXIST) {
            add(&sibling->stats->eexist, 1);
            wake(base, sibling, offset);
        } else if (result == -EAGAIN) {
            add(&sibling->stats->eagain, 1);
            continue;
        } else {
            torpor_sibling_leave(base, sibling, result == -ESRCH ? NULL : "installing pages", (int)-result);
        }
        offset += step;
        length -= step;
    }
    return pages;
}

// A page that is written gets memory at once; its neighbours get the page of zeros, so that writing them costs no event either.
static uint64_t serve_zero(struct torpor_base *base, struct torpor_sibling *sibling, uint64_t offset, bool write) {
    const uint64_t around = base->reader.fault_around_bytes, size = base->reader.header.size_bytes;
    const uint64_t first = offset - offset % around, last = size - first < around ? size : first + around;
    uint64_t start = offset, end = offset + TORPOR_PAGE_SIZE, pages = 0;
    while (start > first && torpor_base_is_zero(base, start - TORPOR_PAGE_SIZE))
        start -= TORPOR_PAGE_SIZE;
    while (end < last && torpor_base_is_zero(base, end))
        end += TORPOR_PAGE_SIZE;
    if (!write)
        return install(base, sibling, start, NULL, end - start);
    pages += install(base, sibling, offset, base->reader.zero, TORPOR_PAGE_SIZE);
    pages += install(base, sibling, start, NULL, offset - start);
    return pages + install(base, sibling, offset + TORPOR_PAGE_SIZE, NULL, end - offset - TORPOR_PAGE_SIZE);
}

// Returns 0 or an exit status.
static int serve_data(struct torpor_base *base, struct torpor_sibling *sibling, uint64_t offset, uint64_t *pages) {
    if (!base->sealed) {
        const int error = torpor_base_fill(base, offset, pages);
        if (!error)
            wake(base, sibling, offset);
        return error;
    }
    const int error = torpor_pager_read(&base->reader, offset, TORPOR_PAGE_SIZE);
    if (!error)
        *pages = install(base, sibling, offset, base->reader.buffer, TORPOR_PAGE_SIZE);
    return error;
}

static void count(struct torpor_pager_stats *stats, bool zero, uint64_t pages, uint64_t read_ns) {
    add(zero ? &stats->zero_pages_served : &stats->data_pages_served, pages);
    add(&stats->fault_around_pages, pages ? pages - 1 : 0);
    count_answer(stats, zero, read_ns);
}

static int serve_fault(struct torpor_base *base, struct torpor_sibling *sibling, uint64_t offset, bool write, uint64_t read_ns) {
    struct torpor_pager *reader = &base->reader;
    const bool zero = torpor_base_is_zero(base, offset);
    uint64_t pages = 0;
    int error = 0;
    if (zero)
        pages = serve_zero(base, sibling, offset, write);
    else
        error = serve_data(base, sibling, offset, &pages);
    if (error)
        return error;
    count(reader->stats, zero, pages, read_ns);
    note_order(reader->stats, reader->seen, offset / TORPOR_PAGE_SIZE, read_ns);
    if (!sibling->left)
        count(sibling->stats, zero, pages, read_ns);
    return 0;
}

static int take_event(struct torpor_base *base, struct torpor_sibling *sibling, const struct uffd_msg *event, uint64_t read_ns) {
    const uint64_t flags = event->arg.pagefault.flags, address = event->arg.pagefault.address & ~(TORPOR_PAGE_SIZE - 1);
    if (event->event != UFFD_EVENT_PAGEFAULT || flags & (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_MINOR)) {
        torpor_sibling_leave(base, sibling, "unexpected userfaultfd event", 0);
        return 0;
    }
    if (address < sibling->address || address - sibling->address >= base->reader.header.size_bytes) {
        torpor_sibling_leave(base, sibling, "fault outside the guest's memory", 0);
        return 0;
    }
    return serve_fault(base, sibling, address - sibling->address, flags & UFFD_PAGEFAULT_FLAG_WRITE, read_ns);
}

// One batch of a sibling's faults, then it is another one's turn. Returns 0 or an exit status.
static int serve_sibling(struct torpor_base *base, struct torpor_sibling *sibling) {
    const ssize_t bytes = read(sibling->uffd, batch, sizeof batch);
    if (bytes < 0) {
        if (errno != EAGAIN && errno != EINTR)
            torpor_sibling_leave(base, sibling, "reading events", errno);
        return 0;
    }
    const uint64_t read_ns = now_ns();
    int error = 0;
    for (size_t i = 0; i < (size_t)bytes / sizeof *batch && !error && !sibling->left; i++)
        error = take_event(base, sibling, &batch[i], read_ns);
    return error;
}

// Returns 0, or what the server ends with; *stop on a signal.
static int take_ready(struct torpor_base *base, const struct epoll_event *ready, bool *stop) {
    const struct torpor_watch *watch = ready->data.ptr;
    struct torpor_sibling *sibling = watch->sibling;
    if (sibling && sibling->left)
        return 0;
    switch (watch->kind) {
    case TORPOR_WATCH_PARTNER:
        return torpor_partner_take_message(base) ? 0 : TORPOR_BASE_ALONE;
    case TORPOR_WATCH_SIGNALS:
        *stop = true;
        return 0;
    case TORPOR_WATCH_SOCKET:
        torpor_sibling_take_handshake(base, sibling);
        return 0;
    case TORPOR_WATCH_VMM:
        torpor_sibling_leave(base, sibling, NULL, 0);
        return 0;
    case TORPOR_WATCH_FAULTS:
        if (ready->events & EPOLLERR)
            torpor_sibling_leave(base, sibling, "userfaultfd is unusable", 0);
        return sibling->left ? 0 : serve_sibling(base, sibling);
    }
    return 0;
}

// How long to wait for events, milliseconds: not at all while there is something to fetch ahead.
static int wait_ms(struct torpor_base *base, uint64_t idle_since_ns) {
    if (base->reader.prefetch_next < base->reader.prefetch.count || prefetch_waits(&base->reader.queue))
        return 0;
    if (base->sibling_count)
        return -1;
    const uint64_t elapsed_ms = (now_ns() - idle_since_ns) / 1000000;
    return elapsed_ms < (uint64_t)base->idle_ms ? base->idle_ms - (int)elapsed_ms : 0;
}

int torpor_base_serve(struct torpor_base *base) {
    atomic_store(&base->reader.stats->state, TORPOR_PAGER_SERVING);
    uint64_t idle_since_ns = now_ns();
    bool stop = false;
    while (!stop) {
        const int ready = epoll_wait(base->epoll, events, EVENTS, wait_ms(base, idle_since_ns));
        if (ready < 0 && errno != EINTR)
            return torpor_pager_fail(&base->reader, TORPOR_PAGER_USERFAULTFD, "epoll_wait", errno);
        int error = 0;
        for (int i = 0; i < ready && !error; i++)
            error = take_ready(base, &events[i], &stop);
        torpor_base_free_left(base);
        if (!error && !ready && !torpor_base_prefetch(base, &error) && !base->sibling_count)
            stop = wait_ms(base, idle_since_ns) == 0;
        if (base->sibling_count)
            idle_since_ns = now_ns();
        if (error)
            return error;
    }
    return 0;
}
