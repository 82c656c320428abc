#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "files.h"

int file_resolve(const struct account *account, const char *path, char resolved[MAX_PATH_BYTES]) {
    if (!*path) return EINVAL;
    int length = *path == '/' ? snprintf(resolved, MAX_PATH_BYTES, "%s", path)
                              : snprintf(resolved, MAX_PATH_BYTES, "%s/%s", account->home, path);
    if (length >= MAX_PATH_BYTES) return ENAMETOOLONG;
    // "name/" means the same path as "name" and must not split into a directory and an empty name.
    while (length > 1 && resolved[length - 1] == '/') resolved[--length] = 0;
    return 0;
}

static int make_one(const char *path) {
    if (mkdir(path, 0755) == 0) return 0;
    int error = errno;
    struct stat status;
    if (stat(path, &status) == 0) return S_ISDIR(status.st_mode) ? 0 : EEXIST;
    return error;
}

int file_make_directories(const char *path) {
    char prefix[MAX_PATH_BYTES];
    if (snprintf(prefix, sizeof prefix, "%s", path) >= (int)sizeof prefix) return ENAMETOOLONG;
    for (char *slash = strchr(prefix + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int error = make_one(prefix);
        if (error) return error == EEXIST ? ENOTDIR : error;
        *slash = '/';
    }
    return make_one(prefix);
}

int file_make_directory(struct worker_output *output, const struct account *account, const void *request) {
    (void)output;
    char path[MAX_PATH_BYTES];
    int error = file_resolve(account, ((const Guest__V1__MakeDirectory *)request)->path, path);
    return error ? error : file_make_directories(path);
}
