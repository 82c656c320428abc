// File requests. Each runs in a worker as the request's user, so permissions are that user's.
#ifndef TORPOR_FILES_H
#define TORPOR_FILES_H

#include "worker.h"

int file_stat(struct worker_output *output, const struct account *account, const void *request);
int file_list(struct worker_output *output, const struct account *account, const void *request);
int file_read(struct worker_output *output, const struct account *account, const void *request);
int file_write(struct worker_output *output, const struct account *account, const void *request);
int file_make_directory(struct worker_output *output, const struct account *account, const void *request);
int file_remove(struct worker_output *output, const struct account *account, const void *request);
int file_sync_all(struct worker_output *output, const struct account *account, const void *request);

// Makes a request's path absolute: relative ones start at the user's home. 0, or an errno.
int file_resolve(const struct account *account, const char *path, char resolved[MAX_PATH_BYTES]);

// Makes the directory and its missing parents, mode 0755 under the umask. Existing directories are left as they are.
int file_make_directories(const char *path);

// Sends the FileEntry of one path (not following a symbolic link). 0, or an errno.
int file_send_entry(struct worker_output *output, const char *path);

#endif
