import type { ArgsDef } from "citty";
import { z } from "zod";
import { integerOption } from "./define.ts";

/** A team as the REST API shows it. */
export const teamSchema = z.object({
  team_id: z.string(),
  name: z.string(),
  limits: z.record(z.string(), z.int().nullable()),
  use: z.record(z.string(), z.int()),
  created_at: z.string(),
});

/** Each limit and its option. */
const LIMITS = {
  requests_per_s: "API calls a second",
  max_sandboxes: "Sandboxes",
  max_running_sandboxes: "Running sandboxes",
  max_vcpus: "vCPUs of running sandboxes",
  max_memory_mb: "RAM of running sandboxes, MiB",
  max_disk_mb: "Disks of sandboxes and what snapshots store, MiB",
  max_snapshots: "Snapshots",
  max_stored_bytes: "What hosts store for it, bytes",
} as const;

const optionOf = (limit: string) => limit.replaceAll("_", "-");

/** The options of commands that set limits. */
export const LIMIT_OPTIONS: ArgsDef = Object.fromEntries(
  Object.entries(LIMITS).map(([limit, description]) => [
    optionOf(limit),
    { type: "string", description: `${description} at most, or "none"`, valueHint: "number" },
  ]),
);

/** The limits that the options name; null: none. @throws UsageError */
export function limitsOf(args: Record<string, unknown>): Record<string, number | null> {
  const given = Object.keys(LIMITS).flatMap((limit) => {
    const text = args[optionOf(limit)] as string | undefined;
    if (text === undefined) return [];
    const least = limit === "requests_per_s" ? 1 : 0;
    const most = limit === "max_stored_bytes" ? Number.MAX_SAFE_INTEGER : 1_000_000_000;
    return [
      [limit, text === "none" ? null : integerOption(text, `--${optionOf(limit)}`, least, most)!] as const,
    ];
  });
  return Object.fromEntries(given);
}
