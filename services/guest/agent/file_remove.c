#define _GNU_SOURCE
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"

enum { OPEN_DIRECTORIES = 64 };

static int first_error;

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk) {
    (void)status;
    (void)walk;
    // An entry that somebody else removed meanwhile is as gone as was asked.
    if ((kind == FTW_DP || kind == FTW_DNR ? rmdir(path) : unlink(path)) && errno != ENOENT && !first_error) {
        first_error = errno;
    }
    return 0;
}

int file_remove(struct worker_output *output, const struct account *account, const void *request) {
    (void)output;
    const Guest__V1__RemoveFile *remove_file = request;
    char path[MAX_PATH_BYTES];
    int error = file_resolve(account, remove_file->path, path);
    if (error) return error;
    if (strcmp(path, "/") == 0) return EBUSY;
    struct stat status;
    if (lstat(path, &status)) return errno;
    if (!S_ISDIR(status.st_mode)) return unlink(path) ? errno : 0;
    if (!remove_file->recursive) return rmdir(path) ? errno : 0;
    // Not FTW_MOUNT: an overlay's files and folders have different devices, so it would leave the files out.
    if (nftw(path, remove_one, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS)) return errno;
    return first_error;
}
