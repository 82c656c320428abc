#define _GNU_SOURCE
#include "freezer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "platform.h"

static int open_in_cgroup(const char *name, int flags) {
    const char *directory = platform_user_cgroup();
    if (!directory) {
        errno = ENOENT;
        return -1;
    }
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return open(path, flags | O_CLOEXEC);
}

static int write_state(struct freezer *freezer, const char *text) {
    if (freezer->state_fd < 0) freezer->state_fd = open_in_cgroup("cgroup.freeze", O_WRONLY);
    if (freezer->state_fd < 0) return errno;
    return pwrite(freezer->state_fd, text, 1, 0) == 1 ? 0 : errno;
}

static void freezer_ready(struct event_source *source, uint32_t events) {
    (void)events;
    ((struct freezer *)source)->changed = true;
}

// The descriptor stays open and watched: cgroup.events announces each change (EPOLLPRI).
static int watch_events(struct agent *agent) {
    struct freezer *freezer = &agent->freezer;
    if (freezer->events_fd >= 0) return 0;
    int fd = open_in_cgroup("cgroup.events", O_RDONLY);
    if (fd < 0) return errno;
    freezer->source.ready = freezer_ready;
    if (!agent_watch(agent, fd, EPOLLPRI, &freezer->source)) {
        int error = errno;
        close(fd);
        return error;
    }
    freezer->events_fd = fd;
    return 0;
}

void freezer_initialize(struct agent *agent) {
    agent->freezer = (struct freezer){.events_fd = -1, .state_fd = -1};
    // Without such a cgroup there is nothing to thaw.
    write_state(&agent->freezer, "0");
}

int freezer_freeze(struct agent *agent, uint32_t watchdog_ms) {
    struct freezer *freezer = &agent->freezer;
    int error = watch_events(agent);
    if (error || (error = write_state(freezer, "1")) != 0) return error;
    freezer->requested = true;
    // The change may have been announced before this call returned, or be true already.
    freezer->changed = true;
    freezer->thaw_at_ns = clock_monotonic_ns() + watchdog_ms * 1000000ull;
    return 0;
}

bool freezer_is_frozen(struct agent *agent) {
    struct freezer *freezer = &agent->freezer;
    if (!freezer->changed) return false;
    freezer->changed = false;
    char text[128];
    ssize_t length = pread(freezer->events_fd, text, sizeof text - 1, 0);
    if (length <= 0) return false;
    text[length] = 0;
    return strstr(text, "frozen 1") != NULL;
}

int freezer_thaw(struct agent *agent, bool *thawed) {
    struct freezer *freezer = &agent->freezer;
    if (thawed) *thawed = false;
    if (!freezer->requested) return 0;
    int error = write_state(freezer, "0");
    if (error) return error;
    freezer->requested = false;
    freezer->thaw_at_ns = 0;
    if (thawed) *thawed = true;
    return 0;
}

void freezer_thaw_overdue(struct agent *agent) {
    struct freezer *freezer = &agent->freezer;
    if (!freezer->thaw_at_ns || clock_monotonic_ns() < freezer->thaw_at_ns) return;
    int error = freezer_thaw(agent, NULL);
    fprintf(stderr, "torpor-agent: nobody thawed the user's processes in time: %s\n", error ? strerror(error) : "thawed");
    // Trying again at once would only spin.
    if (error) freezer->thaw_at_ns = clock_monotonic_ns() + 1000000000ull;
}

uint64_t freezer_next_deadline(const struct agent *agent) { return agent->freezer.thaw_at_ns; }
