#include "machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "clock.h"
#include "platform.h"

static void finish(struct agent *agent, struct stream *stream, const char *span) {
    stream_add_span(stream, span, stream->opened_ns, clock_monotonic_ns());
    stream_end(agent, stream, GUEST__V1__STATUS_CODE__STATUS_CODE_OK, 0, NULL);
}

void machine_ping(struct agent *agent, struct stream *stream) {
    Guest__V1__Pong pong = GUEST__V1__PONG__INIT;
    pong.uptime_ms = clock_read_ns(CLOCK_BOOTTIME) / 1000000u;
    pong.unix_ns = (int64_t)clock_read_ns(CLOCK_REALTIME);
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_PONG;
    frame.pong = &pong;
    stream_send(agent, stream, &frame);
    finish(agent, stream, "guest.ping");
}

// Sum of user, nice, system, irq, softirq and steal; guest time is part of user.
static uint64_t cpu_usage_us(void) {
    FILE *file = fopen("/proc/stat", "re");
    if (!file) return 0;
    unsigned long long user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, softirq = 0, steal = 0;
    int fields = fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait, &irq,
                        &softirq, &steal);
    fclose(file);
    if (fields < 4) return 0;
    return (user + nice + system + irq + softirq + steal) * (1000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

static uint64_t memory_field(const char *name) {
    FILE *file = fopen("/proc/meminfo", "re");
    if (!file) return 0;
    char line[128];
    unsigned long long kibibytes = 0;
    size_t length = strlen(name);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, name, length) == 0 && sscanf(line + length, ": %llu", &kibibytes) == 1) break;
    }
    fclose(file);
    return (uint64_t)kibibytes * 1024;
}

uint64_t machine_memory_bytes(void) { return memory_field("MemTotal"); }

void machine_metrics(struct agent *agent, struct stream *stream) {
    Guest__V1__Metrics metrics = GUEST__V1__METRICS__INIT;
    struct statvfs disk;
    if (statvfs("/", &disk)) memset(&disk, 0, sizeof disk);
    uint64_t available = memory_field("MemAvailable");
    metrics.cpu_usage_us = cpu_usage_us();
    metrics.cpu_count = (uint32_t)get_nprocs();
    metrics.memory_total_bytes = machine_memory_bytes();
    metrics.memory_used_bytes = metrics.memory_total_bytes - available;
    metrics.disk_total_bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
    metrics.disk_used_bytes = (uint64_t)(disk.f_blocks - disk.f_bfree) * disk.f_frsize;
    metrics.uptime_ms = clock_read_ns(CLOCK_BOOTTIME) / 1000000u;
    Guest__V1__Frame frame = GUEST__V1__FRAME__INIT;
    frame.body_case = GUEST__V1__FRAME__BODY_METRICS;
    frame.metrics = &metrics;
    stream_send(agent, stream, &frame);
    finish(agent, stream, "guest.get_metrics");
}
