#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "utf8.h"

static Guest__V1__FileType type_of(mode_t mode) {
    if (S_ISREG(mode)) return GUEST__V1__FILE_TYPE__FILE_TYPE_FILE;
    if (S_ISDIR(mode)) return GUEST__V1__FILE_TYPE__FILE_TYPE_DIRECTORY;
    if (S_ISLNK(mode)) return GUEST__V1__FILE_TYPE__FILE_TYPE_SYMLINK;
    return GUEST__V1__FILE_TYPE__FILE_TYPE_OTHER;
}

// A listing asks for the same few ids again and again: the last answer is kept.
static const char *owner_name(uid_t uid) {
    static char name[MAX_NAME_BYTES];
    static uid_t known;
    if (!*name || known != uid) account_user_name(known = uid, name, sizeof name);
    return name;
}

static const char *group_name(gid_t gid) {
    static char name[MAX_NAME_BYTES];
    static gid_t known;
    if (!*name || known != gid) account_group_name(known = gid, name, sizeof name);
    return name;
}

int file_send_entry(struct worker_output *output, const char *path) {
    struct stat status;
    if (lstat(path, &status)) return errno;
    static char target[MAX_PATH_BYTES], clean_target[MAX_PATH_BYTES], clean_path[MAX_PATH_BYTES];
    ssize_t length = S_ISLNK(status.st_mode) ? readlink(path, target, sizeof target - 1) : 0;
    target[length > 0 ? length : 0] = 0;
    utf8_sanitize(target, clean_target, sizeof clean_target);
    utf8_sanitize(path, clean_path, sizeof clean_path);
    const char *slash = strrchr(clean_path, '/');
    Guest__V1__FileEntry entry = GUEST__V1__FILE_ENTRY__INIT;
    entry.name = (char *)(slash && slash[1] ? slash + 1 : clean_path);
    entry.path = clean_path;
    entry.type = type_of(status.st_mode);
    entry.size_bytes = (uint64_t)status.st_size;
    entry.mode = status.st_mode & 07777;
    entry.uid = status.st_uid;
    entry.gid = status.st_gid;
    entry.owner = (char *)owner_name(status.st_uid);
    entry.group = (char *)group_name(status.st_gid);
    entry.modified_unix_ns = (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec;
    entry.symlink_target = clean_target;
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_FILE_ENTRY;
    frame.file_entry = &entry;
    worker_send(output, &frame, 0);
    return 0;
}

int file_stat(struct worker_output *output, const struct account *account, const void *request) {
    char path[MAX_PATH_BYTES];
    int error = file_resolve(account, ((const Guest__V1__StatFile *)request)->path, path);
    return error ? error : file_send_entry(output, path);
}
