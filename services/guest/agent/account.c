#define _GNU_SOURCE
#include "account.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PASSWD_FIELDS = 7, GROUP_FIELDS = 4 };

// Splits "a:b:c" in place. false when there are fewer fields.
static bool split_fields(char *line, char **fields, int count) {
    line[strcspn(line, "\n")] = 0;
    for (int i = 0; i < count; i++) {
        if (!line) return false;
        fields[i] = strsep(&line, ":");
    }
    return true;
}

static bool parse_id(const char *text, unsigned *id) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || *end || end == text || value > 0xFFFFFFFEul) return false;
    *id = (unsigned)value;
    return true;
}

static bool lists_member(char *members, const char *name) {
    for (char *member; (member = strsep(&members, ",")) != NULL;) {
        if (strcmp(member, name) == 0) return true;
    }
    return false;
}

static int read_groups(struct account *account) {
    account->groups[0] = account->gid;
    account->group_count = 1;
    FILE *file = fopen("/etc/group", "re");
    if (!file) return errno == ENOENT ? 0 : errno;
    char *line = NULL, *fields[GROUP_FIELDS];
    size_t size = 0;
    while (getline(&line, &size, file) > 0 && account->group_count < MAX_GROUPS) {
        unsigned gid;
        if (!split_fields(line, fields, GROUP_FIELDS) || !parse_id(fields[2], &gid) || gid == account->gid) continue;
        if (lists_member(fields[3], account->name)) account->groups[account->group_count++] = gid;
    }
    free(line);
    fclose(file);
    return 0;
}

int account_find(const char *name, struct account *account) {
    if (!name || !*name) name = "user";
    FILE *file = fopen("/etc/passwd", "re");
    if (!file) return errno;
    char *line = NULL, *fields[PASSWD_FIELDS];
    size_t size = 0;
    bool found = false;
    while (!found && getline(&line, &size, file) > 0) {
        unsigned uid, gid;
        if (!split_fields(line, fields, PASSWD_FIELDS) || strcmp(fields[0], name) != 0) continue;
        if (!parse_id(fields[2], &uid) || !parse_id(fields[3], &gid)) continue;
        if (strlen(name) >= sizeof account->name || strlen(fields[5]) >= sizeof account->home) continue;
        strcpy(account->name, name);
        strcpy(account->home, *fields[5] ? fields[5] : "/");
        account->uid = uid;
        account->gid = gid;
        found = true;
    }
    free(line);
    fclose(file);
    return found ? read_groups(account) : ENOENT;
}

int account_become(const struct account *account) {
    if (geteuid() != 0 && geteuid() == account->uid) return 0;
    if (setgroups(account->group_count, account->groups) || setresgid(account->gid, account->gid, account->gid) ||
        setresuid(account->uid, account->uid, account->uid)) {
        return errno;
    }
    return 0;
}

static void name_of_id(const char *path, unsigned id, char *name, size_t size) {
    snprintf(name, size, "%u", id);
    FILE *file = fopen(path, "re");
    if (!file) return;
    char *line = NULL, *fields[3];
    size_t line_size = 0;
    while (getline(&line, &line_size, file) > 0) {
        unsigned found;
        if (!split_fields(line, fields, 3) || !parse_id(fields[2], &found) || found != id) continue;
        snprintf(name, size, "%s", fields[0]);
        break;
    }
    free(line);
    fclose(file);
}

void account_user_name(uid_t uid, char *name, size_t size) { name_of_id("/etc/passwd", uid, name, size); }
void account_group_name(gid_t gid, char *name, size_t size) { name_of_id("/etc/group", gid, name, size); }
