import { z } from "zod";

/** A host as REST shows it. */
export const hostSchema = z.looseObject({
  host_id: z.string(),
  name: z.string(),
  state: z.string(),
  vcpus: z.number(),
  memory_mb: z.number(),
  reserved_vcpus: z.number(),
  reserved_memory_mb: z.number(),
  capabilities: z.array(z.string()),
  labels: z.record(z.string(), z.string()),
  running_sandboxes: z.number(),
  paused_sandboxes: z.number(),
});

/** One of {@linkcode hostSchema}. */
export type HostView = z.infer<typeof hostSchema>;

/** A host with what it holds. */
export const hostDetailSchema = hostSchema.extend({
  sandboxes: z.number(),
  snapshots: z.number(),
  active_sandboxes: z.number(),
});
