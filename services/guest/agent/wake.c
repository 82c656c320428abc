#include "wake.h"

#include <errno.h>
#include <string.h>

#include "clock.h"
#include "freezer.h"
#include "platform.h"
#include "process.h"

enum { MAX_ENTROPY_BYTES = 4096, MAX_HOSTNAME_BYTES = 63, MACHINE_ID_DIGITS = 32, MAX_GENERATION_BYTES = 64 };

static const char HEXADECIMAL[] = "0123456789abcdef";
static const char HOSTNAME_CHARACTERS[] = "abcdefghijklmnopqrstuvwxyz0123456789-";

static bool consists_of(const char *text, const char *characters, size_t least, size_t most) {
    size_t length = strlen(text);
    return length >= least && length <= most && strspn(text, characters) == length;
}

static bool is_printable(const char *text) {
    for (; *text; text++) {
        if (*text <= ' ' || *text > '~') return false;
    }
    return true;
}

static const char *invalid_request(const Guest__V1__Wake *request) {
    if (request->unix_ns < 0) return "unix_ns is negative";
    if (request->entropy.len > MAX_ENTROPY_BYTES) return "more than 4096 bytes of entropy";
    const Guest__V1__Identity *identity = request->identity;
    if (!identity) return NULL;
    if (!consists_of(identity->hostname, HOSTNAME_CHARACTERS, 1, MAX_HOSTNAME_BYTES)) return "hostname is invalid";
    if (!consists_of(identity->machine_id, HEXADECIMAL, MACHINE_ID_DIGITS, MACHINE_ID_DIGITS)) {
        return "machine_id is invalid";
    }
    size_t generation = strlen(identity->generation);
    if (generation < 1 || generation > MAX_GENERATION_BYTES || !is_printable(identity->generation)) {
        return "generation is invalid";
    }
    return NULL;
}

static int set_clock(int64_t unix_ns, int64_t *behind_ns) {
    if (unix_ns == 0) return 0;
    *behind_ns = unix_ns - (int64_t)clock_read_ns(CLOCK_REALTIME);
    return platform_set_realtime(unix_ns);
}

// Names the step that failed, or NULL; *error is its errno.
static const char *run_steps(struct agent *agent, struct stream *stream, const Guest__V1__Wake *request,
                             Guest__V1__WakeReport *report, int *error) {
    uint64_t begin = stream->opened_ns, end;
    if ((*error = set_clock(request->unix_ns, &report->behind_ns)) != 0) return "set clock";
    if (request->entropy.len) {
        *error = platform_add_entropy(request->entropy.data, (uint32_t)request->entropy.len);
        if (*error) return "add entropy";
        report->entropy_bytes = (uint32_t)request->entropy.len;
    }
    end = clock_monotonic_ns();
    stream_add_span(stream, "guest.set_clock", begin, end);
    if (request->identity) {
        const Guest__V1__Identity *identity = request->identity;
        *error = platform_set_identity(identity->hostname, identity->machine_id, identity->generation);
        if (*error) return "set identity";
        // Its processes' readers stayed with the sandbox that it comes from.
        process_reader_forget_places(agent);
        begin = end, end = clock_monotonic_ns();
        stream_add_span(stream, "guest.set_identity", begin, end);
    }
    if (request->thaw) {
        bool thawed;
        if ((*error = freezer_thaw(agent, &thawed)) != 0) return "thaw";
        report->thawed = thawed;
        stream_add_span(stream, "guest.thaw", end, clock_monotonic_ns());
    }
    return NULL;
}

void wake(struct agent *agent, struct stream *stream, const Guest__V1__Wake *request) {
    const char *invalid = invalid_request(request);
    if (invalid) {
        stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_INVALID_ARGUMENT, EINVAL, invalid);
        return;
    }
    Guest__V1__WakeReport report = GUEST__V1__WAKE_REPORT__INIT;
    int error;
    const char *failed = run_steps(agent, stream, request, &report, &error);
    if (failed) {
        stream_end_errno(agent, stream, error, failed);
        return;
    }
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_WAKE_REPORT;
    frame.wake_report = &report;
    stream_send(agent, stream, &frame);
    stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_OK, 0, NULL);
}
