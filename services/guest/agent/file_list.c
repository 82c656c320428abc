#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

static int is_entry(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_name(const struct dirent **left, const struct dirent **right) {
    return strcmp((*left)->d_name, (*right)->d_name);
}

static int list_directory(struct worker_output *output, const char *path, unsigned depth) {
    struct dirent **names;
    int count = scandir(path, &names, is_entry, by_name);
    if (count < 0) return errno;
    for (int i = 0; i < count; i++) {
        char child[MAX_PATH_BYTES];
        bool fits = snprintf(child, sizeof child, "%s/%s", strcmp(path, "/") ? path : "", names[i]->d_name) <
                    (int)sizeof child;
        bool directory = names[i]->d_type == DT_DIR;
        free(names[i]);
        // What vanishes, or may not be entered, while the tree is walked is left out: the rest still counts.
        if (fits && file_send_entry(output, child) == 0 && directory && depth > 1) list_directory(output, child, depth - 1);
    }
    free(names);
    return 0;
}

int file_list(struct worker_output *output, const struct account *account, const void *request) {
    const Guest__V1__ListDirectory *list = request;
    char path[MAX_PATH_BYTES];
    int error = file_resolve(account, list->path, path);
    if (error) return error;
    unsigned depth = list->depth == 0 ? 1 : list->depth > MAX_LIST_DEPTH ? MAX_LIST_DEPTH : list->depth;
    return list_directory(output, path, depth);
}
