// Writing guest memory out.
#include "crc32c.h"
#include "test.h"
#include "torpor.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096ull

struct memory {
    int memfd;
    uint64_t pages;
    unsigned char *model;
    uint8_t *hole; // one byte per page
};

// Random runs of holes, zero pages that are present, data, and pages whose only data is their last byte.
static struct memory make_memory(uint64_t seed, uint64_t pages) {
    struct memory memory = {torpor_memfd_create("guest", pages * PAGE), pages, calloc(pages, PAGE), calloc(1, pages)};
    for (uint64_t page = 0; page < pages;) {
        const uint64_t kind = next_random(&seed) % 4;
        for (uint64_t left = 1 + next_random(&seed) % 300; left && page < pages; left--, page++) {
            unsigned char *at = memory.model + page * PAGE;
            memory.hole[page] = kind == 0;
            if (kind == 2)
                fill_random(&seed, at, PAGE);
            if (kind == 3)
                at[PAGE - 1] = 1;
            if (kind)
                CHECK_EQ(torpor_pwrite(memory.memfd, at, PAGE, page * PAGE), PAGE);
        }
    }
    return memory;
}

static bool is_zero(const unsigned char *page) {
    for (size_t i = 0; i < PAGE; i++)
        if (page[i])
            return false;
    return true;
}

static bool wanted(const uint8_t *bitmap, uint64_t page) {
    return !bitmap || bitmap[page / 8] >> (page % 8) & 1;
}

static void check_runs(const struct memory *memory, const uint8_t *bitmap, int output, const struct torpor_export_result *result) {
    uint64_t next = 0, data = 0, zero = 0;
    unsigned char page_bytes[PAGE];
    for (uint64_t i = 0; i < result->run_count; i++) {
        const struct torpor_run *run = &result->runs[i];
        for (; next < run->page_index; next++)
            CHECK(!wanted(bitmap, next));
        CHECK(run->page_count > 0 && run->page_index == next);
        for (uint64_t k = 0; k < run->page_count; k++, next++) {
            const unsigned char *model = memory->model + next * PAGE;
            CHECK(wanted(bitmap, next));
            CHECK_EQ(run->kind == TORPOR_RUN_ZERO, is_zero(model));
            if (run->kind == TORPOR_RUN_ZERO) {
                CHECK_EQ(run->output_offset, 0);
                zero++;
                continue;
            }
            CHECK_EQ(run->output_offset + k * PAGE, data * PAGE); // packed
            CHECK_EQ(torpor_pread(output, page_bytes, PAGE, data * PAGE), PAGE);
            CHECK(!memcmp(page_bytes, model, PAGE));
            data++;
        }
        const struct torpor_run *after = run + 1;
        CHECK(i + 1 == result->run_count || after->page_index != next || after->kind != run->kind); // merged
    }
    for (; next < memory->pages; next++)
        CHECK(!wanted(bitmap, next));
    CHECK_EQ(result->data_pages, data);
    CHECK_EQ(result->zero_pages, zero);
    CHECK_EQ(result->bytes_written, data * PAGE);
    CHECK_EQ(torpor_size_bytes(output), data * PAGE);
}

static void check_checksum(int output, const struct torpor_export_result *result) {
    unsigned char *bytes = malloc(result->bytes_written + 1);
    CHECK_EQ(torpor_pread(output, bytes, result->bytes_written, 0), result->bytes_written);
    CHECK_EQ(result->crc32c, torpor_crc32c_portable(0, bytes, result->bytes_written));
    free(bytes);
}

static void export_and_check(const struct memory *memory, const uint8_t *bitmap) {
    const int output = memfd_create("output", MFD_CLOEXEC);
    const int64_t before = torpor_allocated_bytes(memory->memfd);
    struct torpor_export_result result;
    CHECK_EQ(torpor_export_memory(memory->memfd, memory->pages * PAGE, bitmap, output, &result), 0);
    CHECK_EQ(torpor_allocated_bytes(memory->memfd), before); // no hole was filled
    check_runs(memory, bitmap, output, &result);
    check_checksum(output, &result);
    torpor_free(result.runs);
    close(output);
}

static void free_memory(struct memory *memory) {
    close(memory->memfd);
    free(memory->model);
    free(memory->hole);
}

TEST(export_of_everything_and_of_random_pages) {
    for (uint64_t seed = 1; seed <= 6; seed++) {
        uint64_t random = seed;
        const uint64_t pages = 1 + next_random(&random) % 6000;
        struct memory memory = make_memory(seed, pages);
        uint8_t *bitmap = calloc(1, pages / 8 + 1);
        export_and_check(&memory, NULL);
        export_and_check(&memory, bitmap); // none
        for (uint64_t page = 0; page < pages; page++)
            bitmap[page / 8] |= (uint8_t)((next_random(&random) % 3 == 0) << (page % 8));
        export_and_check(&memory, bitmap);
        memset(bitmap, 0xff, pages / 8 + 1); // also bits behind the last page
        export_and_check(&memory, bitmap);
        free(bitmap);
        free_memory(&memory);
    }
}

TEST(export_reports_a_full_disk) {
    CHECK_EQ(unshare(CLONE_NEWNS), 0);
    CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    CHECK_EQ(mount("tmpfs", "/mnt", "tmpfs", 0, "size=256k"), 0);
    struct memory memory = make_memory(42, 3000);
    const int output = open("/mnt/memory.data", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct torpor_export_result result;
    CHECK_EQ(torpor_export_memory(memory.memfd, memory.pages * PAGE, NULL, output, &result), -ENOSPC);
    CHECK(!result.runs && !result.run_count);
    close(output);
    free_memory(&memory);
}

TEST(export_reports_a_file_size_limit_and_a_closed_output) {
    struct memory memory = make_memory(43, 3000);
    struct torpor_export_result result;
    CHECK_EQ(torpor_export_memory(memory.memfd, memory.pages * PAGE, NULL, -1, &result), -EBADF);
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {1 << 16, 1 << 16};
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    const int output = memfd_create("output", MFD_CLOEXEC);
    CHECK_EQ(torpor_export_memory(memory.memfd, memory.pages * PAGE, NULL, output, &result), -EFBIG);
    close(output);
    free_memory(&memory);
}

TEST(sparse_copy_keeps_content_and_holes) {
    struct memory memory = make_memory(44, 5000);
    char path[] = "/tmp/torpor-copy-XXXXXX";
    const int on_disk = mkstemp(path), in_memory = memfd_create("copy", MFD_CLOEXEC);
    CHECK(on_disk >= 0 && !unlink(path));
    const int targets[] = {in_memory, on_disk};
    unsigned char *bytes = malloc(memory.pages * PAGE);
    for (int i = 0; i < 2; i++) {
        struct torpor_copy_result result;
        CHECK_EQ(torpor_pwrite(targets[i], "old", 3, memory.pages * PAGE * 2), 3); // is replaced
        CHECK_EQ(torpor_copy_sparse(memory.memfd, targets[i], (memory.pages + 8) * PAGE, &result), 0);
        CHECK_EQ(torpor_size_bytes(targets[i]), (memory.pages + 8) * PAGE);
        CHECK_EQ(torpor_pread(targets[i], bytes, memory.pages * PAGE, 0), memory.pages * PAGE);
        CHECK(!memcmp(bytes, memory.model, memory.pages * PAGE));
        CHECK_EQ(result.reflink, 0);
        CHECK_EQ(result.bytes_copied, (uint64_t)torpor_allocated_bytes(memory.memfd));
    }
    CHECK_EQ(torpor_allocated_bytes(in_memory), torpor_allocated_bytes(memory.memfd));
    struct torpor_copy_result result; // from one file on disk to another: in the kernel
    CHECK_EQ(torpor_copy_sparse(on_disk, in_memory, 100 * PAGE, &result), 0);
    CHECK_EQ(torpor_size_bytes(in_memory), 100 * PAGE);
    free(bytes);
    close(on_disk);
    close(in_memory);
    free_memory(&memory);
}

TEST(punch_hole_frees_blocks_and_reads_as_zero) {
    const int fd = torpor_memfd_create("disk", 64 * PAGE);
    char page[PAGE], zero[PAGE] = {0};
    memset(page, 7, PAGE);
    for (uint64_t i = 0; i < 64; i++)
        CHECK_EQ(torpor_pwrite(fd, page, PAGE, i * PAGE), PAGE);
    CHECK_EQ(torpor_allocated_bytes(fd), 64 * PAGE);
    CHECK_EQ(torpor_punch_hole(fd, 8 * PAGE, 16 * PAGE), 0);
    CHECK_EQ(torpor_allocated_bytes(fd), 48 * PAGE);
    CHECK_EQ(torpor_pread(fd, page, PAGE, 8 * PAGE), PAGE);
    CHECK(!memcmp(page, zero, PAGE));
    close(fd);
}
