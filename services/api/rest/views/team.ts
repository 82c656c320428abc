import { z } from "@hono/zod-openapi";
import type { StoredBytes, UsageDay } from "@torpor/db";
import type { Team } from "../../handlers/teams.ts";
import type { Usage } from "../../handlers/usage.ts";

const limit = z.int().nullable();

export const teamView = z.object({
  team_id: z.string(),
  name: z.string(),
  limits: z.object({
    requests_per_s: limit,
    max_sandboxes: limit,
    max_running_sandboxes: limit,
    max_vcpus: limit,
    max_memory_mb: limit,
    max_disk_mb: limit,
    max_snapshots: limit,
    max_stored_bytes: limit,
  }).openapi({ description: "Null: no limit." }),
  use: z.object({
    sandboxes: z.int(),
    running_sandboxes: z.int(),
    vcpus: z.int(),
    memory_mb: z.int(),
    disk_mb: z.int(),
    snapshots: z.int(),
    stored_bytes: z.int(),
  }).openapi({ description: "What it has now." }),
  created_at: z.iso.datetime(),
}).openapi("Team");

export const teamListView = z.object({ teams: z.array(teamView) }).openapi("TeamList");

/** A team as the REST API shows it. */
export function viewTeam({ id, name, limits, use, createdAt }: Team): z.input<typeof teamView> {
  return {
    team_id: id,
    name,
    limits: {
      requests_per_s: limits.requestsPerS,
      max_sandboxes: limits.maxSandboxes,
      max_running_sandboxes: limits.maxRunningSandboxes,
      max_vcpus: limits.maxVcpus,
      max_memory_mb: limits.maxMemoryMb,
      max_disk_mb: limits.maxDiskMb,
      max_snapshots: limits.maxSnapshots,
      max_stored_bytes: limits.maxStoredBytes,
    },
    use: {
      sandboxes: use.sandboxes,
      running_sandboxes: use.runningSandboxes,
      vcpus: use.vcpus,
      memory_mb: use.memoryMb,
      disk_mb: use.diskMb,
      snapshots: use.snapshots,
      stored_bytes: use.storedBytes,
    },
    created_at: createdAt.toISOString(),
  };
}

const sums = {
  vcpu_seconds: z.number().openapi({ description: "vCPUs × seconds of running sandboxes." }),
  memory_mb_seconds: z.number().openapi({ description: "MiB × seconds of their RAM." }),
  running_disk_mb_seconds: z.number().openapi({ description: "MiB × seconds of their disks, by size." }),
  paused_disk_mb_seconds: z.number().openapi({ description: "MiB × seconds of the disks of paused sandboxes." }),
  snapshot_byte_seconds: z.number().openapi({
    description: "Bytes × seconds that snapshots store: those of paused sandboxes, and those that belong to none.",
  }),
};

const storedBytes = z.object({
  unique_bytes: z.int().openapi({ description: "For nobody else." }),
  shared_bytes: z.int().openapi({ description: "Its part of what is stored for others, too." }),
});

export const usageView = z.object({
  team_id: z.string(),
  from: z.iso.date(),
  to: z.iso.date(),
  days: z.array(z.object({ day: z.iso.date(), ...sums })).openapi({
    description: "Those without any use are left out.",
  }),
  total: z.object(sums),
  stored: z.object({ sandboxes: storedBytes, snapshots: storedBytes }).openapi({
    description: "What hosts store for it now, as they have measured it last.",
  }),
}).openapi("Usage");

/** A team's usage as the REST API shows it. */
export function viewUsage({ teamId, from, to, days, stored }: Usage): z.input<typeof usageView> {
  const sum = (read: (day: UsageDay) => number) => days.reduce((total, day) => total + read(day), 0);
  return {
    team_id: teamId,
    from,
    to,
    days: days.map((day) => ({ day: day.day, ...viewSums((read) => read(day)) })),
    total: viewSums(sum),
    stored: { sandboxes: viewStored(stored.sandboxes), snapshots: viewStored(stored.snapshots) },
  };
}

function viewStored({ uniqueBytes, sharedBytes }: StoredBytes) {
  return { unique_bytes: Number(uniqueBytes), shared_bytes: Number(sharedBytes) };
}

function viewSums(value: (read: (day: UsageDay) => number) => number) {
  return {
    vcpu_seconds: value((day) => day.vcpuSeconds),
    memory_mb_seconds: value((day) => day.memoryMbSeconds),
    running_disk_mb_seconds: value((day) => day.runningDiskMbSeconds),
    paused_disk_mb_seconds: value((day) => day.pausedDiskMbSeconds),
    snapshot_byte_seconds: value((day) => day.snapshotByteSeconds),
  };
}
