// The extent header and the files that hold the pages.
//
// Sources are read with pread into a buffer, not mapped: an I/O error or a truncated file is then a return value before anything
// was installed, where a mapping would raise SIGBUS inside UFFDIO_COPY or hand the guest a page of zeros behind the end of the file.
// The price is one copy of the page more (measured in ffi/README.md).
#include "kernel_compat.h"
#include "pager.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int torpor_pager_fail(struct torpor_pager *pager, int status, const char *what, int error) {
    pager->failure = what;
    pager->failure_errno = error;
    return status;
}

int torpor_pager_read_header(struct torpor_pager *pager, int header_fd, uint32_t source_count) {
    struct stat status;
    if (fstat(header_fd, &status))
        return torpor_pager_fail(pager, TORPOR_PAGER_HEADER, "fstat of the header", errno);
    const size_t size = (size_t)status.st_size;
    unsigned char *bytes = malloc(size ? size : 1);
    if (!bytes)
        return torpor_pager_fail(pager, TORPOR_PAGER_HEADER, "memory for the header", errno);
    for (size_t done = 0; done < size;) {
        const ssize_t got = pread(header_fd, bytes + done, size - done, (off_t)done);
        if (got <= 0)
            return torpor_pager_fail(pager, TORPOR_PAGER_HEADER, "reading the header", got ? errno : 0);
        done += (size_t)got;
    }
    const enum torpor_header_rule rule = torpor_extent_header_parse(bytes, size, &pager->header);
    if (rule != TORPOR_HEADER_OK)
        return torpor_pager_fail(pager, TORPOR_PAGER_HEADER, torpor_header_rule_name(rule), 0);
    if (pager->header.kind != 1)
        return torpor_pager_fail(pager, TORPOR_PAGER_HEADER, "kind is not memory", 0);
    if (pager->header.source_count != source_count)
        return torpor_pager_fail(pager, TORPOR_PAGER_SOURCE, "number of --source-fd differs from the header", 0);
    return 0;
}

static int file_sizes(struct torpor_pager *pager, uint64_t *sizes) {
    for (uint32_t k = 0; k < pager->header.source_count; k++) {
        struct stat status;
        if (fstat(pager->sources[k], &status))
            return torpor_pager_fail(pager, TORPOR_PAGER_SOURCE, "source is no descriptor", errno);
        if (!S_ISREG(status.st_mode))
            return torpor_pager_fail(pager, TORPOR_PAGER_SOURCE, "source is no regular file", 0);
        sizes[k] = (uint64_t)status.st_size;
    }
    return 0;
}

static int check_extents(struct torpor_pager *pager, const uint64_t *sizes) {
    for (uint64_t i = 0; i < pager->header.extent_count; i++) {
        const struct torpor_extent *extent = &pager->header.extents[i];
        if (extent->source == TORPOR_SOURCE_ZERO)
            continue;
        const uint64_t size = sizes[extent->source];
        if (extent->source_offset > size || extent->length > size - extent->source_offset)
            return torpor_pager_fail(pager, TORPOR_PAGER_SOURCE, "a source is shorter than its extents", 0);
    }
    return 0;
}

int torpor_pager_check_sources(struct torpor_pager *pager) {
    uint64_t *sizes = calloc(pager->header.source_count + 1ull, sizeof *sizes);
    if (!sizes)
        return torpor_pager_fail(pager, TORPOR_PAGER_SOURCE, "memory for the sources", errno);
    int status = file_sizes(pager, sizes);
    if (!status)
        status = check_extents(pager, sizes);
    free(sizes);
    return status;
}

static int read_all(struct torpor_pager *pager, int fd, unsigned char *into, uint64_t length, uint64_t offset) {
    while (length) {
        const ssize_t got = pread(fd, into, length, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return torpor_pager_fail(pager, TORPOR_PAGER_READ, "reading a source", errno);
        if (!got)
            return torpor_pager_fail(pager, TORPOR_PAGER_READ, "a source was truncated", 0);
        into += got;
        offset += (uint64_t)got;
        length -= (uint64_t)got;
    }
    return 0;
}

static void count_bytes(struct torpor_pager *pager, uint32_t source, uint64_t bytes) {
    const uint32_t slot = source < TORPOR_PAGER_COUNTED_SOURCES ? source : TORPOR_PAGER_COUNTED_SOURCES;
    atomic_fetch_add_explicit(&pager->stats->bytes_read[slot], bytes, memory_order_relaxed);
}

int torpor_pager_read(struct torpor_pager *pager, uint64_t offset, uint64_t length) {
    unsigned char *into = pager->buffer;
    while (length) {
        pager->extent_hint = torpor_extent_find(&pager->header, offset, pager->extent_hint);
        const struct torpor_extent *extent = &pager->header.extents[pager->extent_hint];
        const uint64_t inside = offset - extent->offset;
        const uint64_t part = length < extent->length - inside ? length : extent->length - inside;
        const int error = read_all(pager, pager->sources[extent->source], into, part, extent->source_offset + inside);
        if (error)
            return error;
        count_bytes(pager, extent->source, part);
        into += part;
        offset += part;
        length -= part;
    }
    return 0;
}
