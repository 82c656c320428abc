// libtorpor: the system calls that the agent needs and Deno does not offer.
// Every function returns 0 (or what it says) on success and -errno on failure; nothing is printed, no memory is kept unless said so.
// Descriptors that are returned are close-on-exec and the caller's; descriptors that are given stay the caller's.
// Functions marked [blocking] may take long: call them off the main thread.
#pragma once

#include <stdint.h>

#define TORPOR_ABI_VERSION 1
int torpor_abi_version(void);

// --- descriptors and files (file.c) ---

// A memfd of `size` bytes, sealed against shrinking and growing.
int torpor_memfd_create(const char *name, uint64_t size);
enum torpor_open_flags {
    TORPOR_OPEN_READ = 1,
    TORPOR_OPEN_WRITE = 2,
    TORPOR_OPEN_CREATE = 4,
    TORPOR_OPEN_TRUNCATE = 8,
    TORPOR_OPEN_EXCLUSIVE = 16,
    TORPOR_OPEN_DIRECTORY = 32,
};
int torpor_open(const char *path, uint32_t flags, uint32_t mode);
int torpor_close(int fd);
int torpor_duplicate(int fd);
int torpor_fsync(int fd);                // [blocking]
int torpor_fsync_path(const char *path); // [blocking] of a file or directory
int64_t torpor_pread(int fd, void *into, uint64_t length, uint64_t offset); // [blocking] bytes read, less than length only at the end
int64_t torpor_pwrite(int fd, const void *from, uint64_t length, uint64_t offset); // [blocking] all or -errno
int64_t torpor_size_bytes(int fd);
int64_t torpor_allocated_bytes(int fd);
int torpor_punch_hole(int fd, uint64_t offset, uint64_t length);
// Device and inode number of what `fd` refers to, into identity[0] and identity[1].
int torpor_identity(int fd, uint64_t *identity);
int torpor_open_userfaultfd_device(void);
void torpor_free(void *memory);

// --- unix sockets (unix_socket.c; see also descriptor_passing.h) ---

int torpor_socket_pair(int *pair);
int torpor_unix_connect(const char *path); // -ENAMETOOLONG when the path has more than 107 bytes
// A listening stream socket with mode 0600, in the place of whatever socket has this name. Errors as above.
int torpor_unix_listen(const char *path, int backlog);

// --- processes (spawn.c, process.c, watcher.c) ---

struct torpor_spawn_options {
    int32_t argument_count;    // ≥ 1
    int32_t environment_count;
    int32_t has_directory;
    int32_t descriptor_count;
    int32_t user;              // -1: unchanged
    int32_t group;             // -1: unchanged
    int32_t no_new_privileges;
    int32_t death_signal;      // 0: none; arrives when the calling thread ends
};
enum torpor_spawn_stage { // where a spawn failed
    TORPOR_SPAWN_PARENT = 0,
    TORPOR_SPAWN_SESSION = 1,
    TORPOR_SPAWN_DESCRIPTORS = 2,
    TORPOR_SPAWN_DIRECTORY = 3,
    TORPOR_SPAWN_CREDENTIALS = 4,
    TORPOR_SPAWN_EXECUTE = 5,
    TORPOR_SPAWN_OOM_SCORE = 6,
    TORPOR_SPAWN_NAMESPACES = 7,
    TORPOR_SPAWN_LIMITS = 8,
    TORPOR_SPAWN_CAPABILITIES = 9,
    TORPOR_SPAWN_FILTER = 10,
};
struct torpor_spawn_result {
    int32_t pid;
    int32_t pidfd;
    int32_t stage; // enum torpor_spawn_stage
    int32_t reserved;
    uint64_t start_time; // field 22 of /proc/pid/stat: clock ticks since boot
};
// Starts a program in a session of its own with exactly the given descriptors. `strings` holds NUL-terminated strings one after
// the other: path, argument_count arguments (from argv[0]), environment_count NAME=value, the directory if has_directory.
// `descriptors` holds pairs {number in the child, number here}; 0, 1 and 2 are /dev/null unless given. Signal mask and handlers are
// the default. Returns after the program runs, or with the errno of whatever failed in the child.
int torpor_spawn(const struct torpor_spawn_options *options, const char *strings, uint64_t strings_length, const int32_t *descriptors,
                 struct torpor_spawn_result *result);

// What is taken from a program before it runs (confine.c). All descriptors are this process's. Cgroups are not among it: to join one
// takes a grace period of the kernel's, 15 ms on a busy machine, for which the caller would wait.
struct torpor_confinement {
    int32_t root;                // mount namespace of torpor_make_root, of which the program gets a copy of its own; -1: this one
    int32_t network;             // network namespace; -1: this one
    int32_t own_processes;       // it is process 1 of a namespace of its own, and sees no others
    int32_t own_ipc;             // System V IPC and message queues of its own; it does not see which cgroup is the caller's
    int32_t nice;                // added to what it inherits: given before the right to it is gone
    int32_t drop_capabilities;   // all, also from the bounding set
    int32_t filter_system_calls; // refuses what no VMM and no pager uses (syscall_filter.c); needs no_new_privileges
    int32_t oom_score;           // 0: unchanged; 1 … 1000: sooner than others
    uint64_t max_file_bytes; // of files that it writes; these four: UINT64_MAX for unchanged
    uint64_t max_descriptors;
    uint64_t max_processes; // of its user, threads included
    uint64_t max_core_bytes;
};
// torpor_spawn with `confinement`; NULL for none.
int torpor_spawn_confined(const struct torpor_spawn_options *options, const char *strings, uint64_t strings_length,
                          const int32_t *descriptors, const struct torpor_confinement *confinement,
                          struct torpor_spawn_result *result);

// Makes a mount namespace whose root has what `strings` lists (pairs of path here and path there, NUL-terminated, each a directory or
// file), read-only, and a /dev with null, zero, full, random, urandom and, if there is one, kvm. Returns a descriptor of it.
int torpor_make_root(const char *strings, uint64_t length);
// Makes a network namespace without any device that is up. Returns a descriptor of it.
int torpor_make_network(void);
// Takes all capabilities but those of `keep` (bits) from each thread of this process, for good. -ETIMEDOUT when a thread does not answer.
int torpor_keep_capabilities(uint64_t keep);
// Takes a number, for which the file at `path` (made if needed) stands: it is taken for as long as any descriptor of it is open.
// Returns the first one. -EWOULDBLOCK when it is taken.
int torpor_take_lease(const char *path);
// One more descriptor of a number that is taken, to be inherited or kept. -EWOULDBLOCK when somebody is just trying to take it.
int torpor_share_lease(const char *path);

int torpor_pidfd_open(int pid);
int torpor_pidfd_signal(int pidfd, int signal); // -ESRCH when the process is gone
int torpor_pidfd_get_descriptor(int pidfd, int number);
int64_t torpor_process_start_time(int pid);

// A thread that tells about the end of processes, so that waiting takes no thread of the caller's.
struct torpor_exit_record { // written to the watcher's socket, 16 bytes each
    uint64_t token;
    int32_t code;   // exit code, or -1
    int32_t signal; // signal number, or -1; both -1: it was no child of this process
};
struct torpor_watcher;
// Starts a watcher; records can be read from *socket, which is the caller's. NULL on failure with -errno in *socket.
struct torpor_watcher *torpor_watcher_start(int *socket);
// Watches a process until its end, reaping it when it is a child. The pidfd stays the caller's (it is duplicated).
int torpor_watcher_add(struct torpor_watcher *watcher, int pidfd, uint64_t token);
// Ends the thread and frees the watcher. Processes that are still watched are forgotten, neither reaped nor signalled.
void torpor_watcher_stop(struct torpor_watcher *watcher);

// --- guest memory (present.c, dirty.c, compare.c, export.c) ---

// [blocking] Sets a bit (least significant first) for each page that takes memory in the memfd. `bitmap` is zero on entry.
// Returns the number of pages or a negative errno.
int64_t torpor_present_pages(int memfd, uint64_t size, uint8_t *bitmap);

int torpor_pagemap_scan_supported(void); // 1, 0, or -errno when userfaultfd cannot be had
// [blocking] Sets in `bitmap` (1 bit per page, least significant first, cleared by the caller) the pages of
// [address, address + size) that were written since they were armed; with `protect` they are armed again in the same step.
// With `memfd` (or -1), pages that are holes of it are left out: a page that was never loaded may count as written.
// Returns their number, or -EPERM when the range is not under asynchronous write protection.
int64_t torpor_scan_dirty(int pid, uint64_t address, uint64_t size, int protect, int memfd, uint8_t *bitmap);
// Clears the bits of `bitmap` whose pages are holes of the memfd, and returns how many are left. [blocking]
int64_t torpor_keep_present(int memfd, uint64_t size, uint8_t *bitmap);

int torpor_soft_dirty_supported(void); // 1, 0, or -errno
int torpor_clear_soft_dirty(int pid);  // [blocking]
// [blocking] Sets the pages that were written or loaded since torpor_clear_soft_dirty; more are possible. Returns their number.
int64_t torpor_soft_dirty_pages(int pid, uint64_t address, uint64_t size, uint8_t *bitmap);
// [blocking] Sets the pages that are present in the memfd and differ from what the extent header says; source k = sources[k].
// With `candidates` (or NULL) only these are looked at.
// Returns their number, -EBADMSG when the header breaks a rule, -ENODATA when a source is shorter than its extents.
int64_t torpor_compare_dirty(int memfd, uint64_t size, const void *header, uint64_t header_length, const int32_t *sources,
                             uint32_t source_count, const uint8_t *candidates, uint8_t *bitmap);
// [blocking] The same for the memory of process `pid` from `address` on; `candidates` (needed) may name only pages that
// torpor_private_pages has found: reading any other could wait for a pager. Needs the right to trace the process.
int64_t torpor_compare_process(int pid, uint64_t address, uint64_t size, const void *header, uint64_t header_length,
                               const int32_t *sources, uint32_t source_count, const uint8_t *candidates, uint8_t *bitmap);

enum torpor_private_method {
    TORPOR_PRIVATE_BY_ANY = 0,     // PAGEMAP_SCAN where the kernel has it, else the other
    TORPOR_PRIVATE_BY_SCAN = 1,    // -ENOTTY before Linux 6.7
    TORPOR_PRIVATE_BY_ENTRIES = 2, // reads the pagemap: any kernel; zero pages are among `own`
};
// [blocking] Of [address, address + size), a private mapping of a memory file in process `pid`: sets in `own` the pages that are the
// process's own (written, or installed for it alone; in memory or swapped out) and in `zero` those that are the kernel's page of zeros.
// All others are what the file says. Both bitmaps are zero on entry. Returns 0 or a negative errno.
int torpor_private_pages(int pid, uint64_t address, uint64_t size, int method, uint8_t *own, uint8_t *zero);

struct torpor_put_target {
    uint64_t address; // of the guest's memory in the process
    uint64_t size;
    uint64_t header_length;
    uint32_t source_count;
    int32_t pid;
    int32_t uffd; // of the process, registered for missing pages of that range
    uint32_t reserved;
};
// [blocking] Gives a process whose memory is a private mapping of a base pages of its own: those of `bitmap`, with what the extent
// header says; source k = sources[k]. The process must not use its memory yet: a page that it uses must be the last one's, never
// first the base's. Pages of zeros take no memory. Returns the number of pages, -EBADMSG when the header breaks a rule, -ENODATA when
// a source is shorter than its extents, -ESRCH when the process is gone. After a failure some are there and some are not.
int64_t torpor_put_pages(const struct torpor_put_target *target, const void *header, const int32_t *sources, const uint8_t *bitmap);

enum torpor_run_kind { TORPOR_RUN_ZERO = 0, TORPOR_RUN_DATA = 1 };
struct torpor_run {
    uint64_t page_index;
    uint64_t page_count;
    uint64_t kind;          // enum torpor_run_kind
    uint64_t output_offset; // of data, in bytes; 0 for zero
};
struct torpor_export_result {
    struct torpor_run *runs; // to be freed with torpor_free
    uint64_t run_count;
    uint64_t bytes_written;
    uint64_t data_pages;
    uint64_t zero_pages;
    uint64_t crc32c; // of everything written
};
// [blocking] Writes the pages of `bitmap` (NULL: all) from the memfd to `output` from its start, packed; pages of zeros and holes
// are not written, but listed. Runs are sorted and merged. On failure there is nothing to free; `output` holds a part.
int torpor_export_memory(int memfd, uint64_t size, const uint8_t *bitmap, int output, struct torpor_export_result *result);
// [blocking] The same for the memory of process `pid` from `address` on; `bitmap` (needed) may name only pages that torpor_private_pages
// has found: reading any other could wait for a pager. Needs the right to trace the process.
int torpor_export_process(int pid, uint64_t address, uint64_t size, const uint8_t *bitmap, int output,
                          struct torpor_export_result *result);

// Copies pages while the guest runs, and those written after their copy again (precopy.c).
struct torpor_precopy;
// `memory` is a memfd, or /proc/pid/mem with guest memory at `memory_offset`. `output` is empty and open for reading and writing;
// both stay the caller's and open until the copy is freed. NULL when there is no memory, or `size` is no multiple of the page size.
struct torpor_precopy *torpor_precopy_start(int memory, uint64_t memory_offset, uint64_t size, int output);
// [blocking] Copies the pages of `bitmap`. With `hold` they are kept in memory first, as many as fit: writing them is left to
// torpor_precopy_finish, for a guest that stands still meanwhile. Returns their number or -errno; the copy is then useless.
int64_t torpor_precopy_round(struct torpor_precopy *copy, const uint8_t *bitmap, int hold);
// [blocking] Writes what was held and lists all pages copied, each with its last content; with `complete` all others as zero.
// On failure there is nothing to free. Once per copy.
int torpor_precopy_finish(struct torpor_precopy *copy, int complete, struct torpor_export_result *result);
void torpor_precopy_free(struct torpor_precopy *copy);

// --- disks (sparse_copy.c) ---

struct torpor_copy_result {
    uint64_t reflink;
    uint64_t bytes_copied;
};
// [blocking] Makes `to` a copy of the first `size` bytes of `from` with the same holes, sharing blocks where the file system can.
int torpor_copy_sparse(int from, int to, uint64_t size, struct torpor_copy_result *result);

// --- snapshots' data files (disk_diff.c, data_file.c) ---

struct torpor_disk_diff_input {
    uint64_t size; // of both disks, bytes
    uint64_t header_length;
    uint32_t source_count;
    int32_t disk;
    int32_t output; // an empty file
    uint32_t reserved;
};
// [blocking] Compares a disk with the one that an extent header (of kind disk) describes; source k = sources[k]. Runs list only what
// differs; pages with data are written to `output`, packed. Errors as torpor_compare_dirty; on failure there is nothing to free.
int torpor_disk_diff(const struct torpor_disk_diff_input *input, const void *header, const int32_t *sources,
                     struct torpor_export_result *result);
// [blocking] Runs that tell where a sparse file has data (output_offset: where it is in this file) and where it has holes.
int torpor_data_runs(int fd, uint64_t size, struct torpor_export_result *result);

struct torpor_copy_range {
    uint64_t source; // index into the sources
    uint64_t source_offset;
    uint64_t target_offset;
    uint64_t length;
};
// [blocking] Copies parts of files into `to`, sharing blocks where the file system can. -ENODATA when a source is too short.
int torpor_copy_ranges(const int32_t *sources, uint32_t source_count, const struct torpor_copy_range *ranges, uint64_t range_count, int to,
                       uint64_t *bytes_copied);
int64_t torpor_file_crc32c(int fd, uint64_t length); // [blocking] of the first `length` bytes; -ENODATA when there are fewer
int torpor_exchange(const char *one, const char *other); // two directories or files swap their names in one step

// --- network (tap.c, network_namespace.c) ---

// Opens (making it if needed) a tap device with vnet headers of 12 bytes, in the network namespace at `namespace_path` or, if NULL,
// in this one.
int torpor_open_tap(const char *name, const char *namespace_path); // [blocking] while others change devices

// A descriptor of a new network namespace without a name: it lasts as long as descriptors of it and of devices in it.
int torpor_new_network_namespace(void); // [blocking] as above

// Writes `value` to /proc/sys/net/`name` of the network namespace at `namespace_path` or, if NULL, of this one.
int torpor_network_setting(const char *name, const char *value, const char *namespace_path); // [blocking] as above

// --- clock (tsc.c) ---

// Frequency of the time-stamp counter in kHz: measured over 40 ms at the first call, then remembered.
int64_t torpor_tsc_khz(void);
