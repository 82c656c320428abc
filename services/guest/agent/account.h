// Users and groups from /etc/passwd and /etc/group. A static program has no NSS; the guest has only these files.
#ifndef TORPOR_ACCOUNT_H
#define TORPOR_ACCOUNT_H

#include <stddef.h>
#include <sys/types.h>

#include "bounds.h"

struct account {
    char name[MAX_NAME_BYTES];
    uid_t uid;
    gid_t gid;
    char home[MAX_PATH_BYTES];
    gid_t groups[MAX_GROUPS];
    size_t group_count;
};

// Looks a user up by name; an empty name means "user". 0, or an errno (ENOENT: no such user).
int account_find(const char *name, struct account *account);

// Gives the calling process the user's groups, gid and uid, for good. 0, or an errno. A process that is already that
// unprivileged user keeps its groups (only root may set them).
int account_become(const struct account *account);

// Names for ids; the decimal number when there is none.
void account_user_name(uid_t uid, char *name, size_t size);
void account_group_name(gid_t gid, char *name, size_t size);

#endif
