// Layout and mapping of the pager's statistics.
#include "pager_stats.h"

#include "export.h"
#include "kernel_compat.h"
#include "page_bits.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static uint64_t align_up(uint64_t value, uint64_t to) {
    return (value + to - 1) / to * to;
}

static void lay_out(struct torpor_pager_stats *stats, uint64_t memory_bytes) {
    stats->magic = TORPOR_PAGER_STATS_MAGIC;
    stats->version = TORPOR_PAGER_STATS_VERSION;
    stats->header_bytes = sizeof *stats;
    stats->memory_bytes = memory_bytes;
    stats->page_count = memory_bytes / TORPOR_PAGE_SIZE;
    stats->order_offset = align_up(sizeof *stats, TORPOR_PAGE_SIZE);
    stats->removed_offset = align_up(stats->order_offset + stats->page_count * sizeof(uint32_t), TORPOR_PAGE_SIZE);
    stats->total_bytes = align_up(stats->removed_offset + align_up(stats->page_count, 64) / 8, TORPOR_PAGE_SIZE);
}

TORPOR_EXPORT uint64_t torpor_pager_stats_size(uint64_t memory_bytes) {
    struct torpor_pager_stats stats;
    lay_out(&stats, memory_bytes);
    return stats.total_bytes;
}

static int has_layout(const struct torpor_pager_stats *stats, uint64_t memory_bytes) {
    struct torpor_pager_stats wanted;
    lay_out(&wanted, memory_bytes);
    return !memcmp(stats, &wanted, offsetof(struct torpor_pager_stats, base_host_virt_addr)) &&
           stats->order_count <= wanted.page_count;
}

// Returns NULL and sets errno when size or seal do not fit.
static struct torpor_pager_stats *map(int fd, uint64_t memory_bytes) {
    const uint64_t size = torpor_pager_stats_size(memory_bytes);
    struct stat status;
    if (fstat(fd, &status))
        return NULL;
    const int seals = fcntl(fd, F_GET_SEALS);
    if (status.st_size != (off_t)size || seals < 0 || !(seals & F_SEAL_SHRINK)) {
        errno = EINVAL;
        return NULL;
    }
    struct torpor_pager_stats *stats = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return stats == MAP_FAILED ? NULL : stats;
}

struct torpor_pager_stats *torpor_pager_stats_map(int fd, uint64_t memory_bytes) {
    struct torpor_pager_stats *stats = map(fd, memory_bytes);
    if (stats && !has_layout(stats, memory_bytes)) {
        munmap(stats, torpor_pager_stats_size(memory_bytes));
        errno = EINVAL;
        return NULL;
    }
    return stats;
}

struct torpor_pager_stats *torpor_pager_stats_open(int fd, uint64_t memory_bytes) {
    struct torpor_pager_stats *stats = map(fd, memory_bytes);
    if (!stats)
        return NULL;
    if (!stats->magic) {
        lay_out(stats, memory_bytes);
        stats->uffd_fd = -1;
    } else if (has_layout(stats, memory_bytes)) {
        atomic_fetch_add(&stats->adoptions, 1);
    } else {
        munmap(stats, torpor_pager_stats_size(memory_bytes));
        errno = EINVAL;
        return NULL;
    }
    return stats;
}

void torpor_pager_stats_seen(struct torpor_pager_stats *stats, uint64_t *seen) {
    const uint32_t *order = torpor_pager_stats_order(stats);
    for (uint64_t i = 0; i < stats->order_count; i++)
        if (order[i] < stats->page_count)
            set_bits(seen, order[i], 1, true);
}
