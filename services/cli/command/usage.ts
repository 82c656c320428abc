import { z } from "zod";
import { adminTarget, apiTarget, openApi } from "../client/api.ts";
import { jsonCall, queryOf } from "../client/json_call.ts";
import { formatBytes } from "../terminal/format.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

const sums = z.object({
  vcpu_seconds: z.number(),
  memory_mb_seconds: z.number(),
  running_disk_mb_seconds: z.number(),
  paused_disk_mb_seconds: z.number(),
  snapshot_byte_seconds: z.number(),
});

const stored = z.object({ unique_bytes: z.number(), shared_bytes: z.number() });

const usageSchema = z.object({
  team_id: z.string(),
  from: z.string(),
  to: z.string(),
  days: z.array(sums.extend({ day: z.string() })),
  total: sums,
  stored: z.object({ sandboxes: stored, snapshots: stored }),
});

const HOUR = 3600;
const MB_PER_GB = 1024;

/** `torpor usage` */
export const usage = defineAction({
  name: "usage",
  description: "Show what was used on each day of UTC, up to this moment",
  args: {
    from: { type: "string", description: "First day, such as 2027-01-01. Default: 30 days" },
    to: { type: "string", description: "Last day. Default: today" },
    team: { type: "string", description: "Another team's, by its id; as the administrator of the deployment" },
  },
  async run({ args }) {
    using api = openApi(args.team === undefined ? await apiTarget() : await adminTarget());
    const query = queryOf({ from: args.from, to: args.to, team_id: args.team });
    const used = await jsonCall(api, usageSchema, `/v1/usage${query}`);
    if (args.json) return printJson(used);
    const header = ["DAY", "VCPU H", "MEMORY GIB H", "DISK GIB H", "PAUSED DISK GIB H", "SNAPSHOTS GIB H"];
    const rows = [...used.days, { ...used.total, day: "total" }].map((day) => [
      day.day,
      hours(day.vcpu_seconds),
      hours(day.memory_mb_seconds / MB_PER_GB),
      hours(day.running_disk_mb_seconds / MB_PER_GB),
      hours(day.paused_disk_mb_seconds / MB_PER_GB),
      hours(day.snapshot_byte_seconds / 1024 ** 3),
    ]);
    console.log(formatTable([header, ...rows]));
    const bytes = [used.stored.sandboxes, used.stored.snapshots].map((one) => one.unique_bytes + one.shared_bytes);
    console.log(`stored now: ${formatBytes(bytes[0]!)} for sandboxes, ${formatBytes(bytes[1]!)} for snapshots`);
  },
});

function hours(seconds: number): string {
  return (seconds / HOUR).toFixed(2);
}
