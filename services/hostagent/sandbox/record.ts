import { z } from "zod";
import { TorporError } from "@torpor/errors";
import { ID_PATTERN } from "@torpor/ids";
import { jailRecordSchema } from "../confinement/jail_record.ts";
import { trackingMethods } from "../memory/tracking/method.ts";
import { slotRecordSchema } from "../network/vm_network.ts";
import { DEFAULT_NETWORK, recordedNetworkSchema } from "./recorded_network.ts";
import { NO_RECLAIM, reclaimCapsSchema } from "./reclaim_caps.ts";

/** The schema that this version writes and reads. */
export const RECORD_SCHEMA = 1;

const id = z.string().regex(ID_PATTERN);
const count = z.number().int().nonnegative();

/** A process that outlives the agent: its pid is trusted again only together with its start time and command line. */
const processSchema = z.strictObject({
  pid: z.number().int().positive(),
  /** Field 22 of /proc/<pid>/stat, clock ticks since boot. */
  start_time: z.string().regex(/^\d+$/),
});

/** See {@linkcode processSchema}. */
export type ProcessRecord = z.infer<typeof processSchema>;

/** The snapshot whose base a VM shares with others. */
const baseSchema = z.strictObject({
  snapshot_id: id,
  source_count: count,
  /** Its processes took the place of two that were killed. */
  successor: z.boolean(),
  /** Stands on the command lines of its processes: when one was killed, the other is found by it. */
  mark: id.optional(),
});

/** A shared base. */
export type BaseRecord = ProcessRecord & z.infer<typeof baseSchema>;

const pagerSchema = processSchema.extend({
  stats_fd: count,
  /** Of a sibling: finds the statistics in a process that has them by another number. */
  stats_inode: z.string().regex(/^\d+$/).optional(),
  /** It serves many: these are its own and this one's statistics. */
  base: baseSchema.optional(),
});

/** A pager. */
export type PagerRecord = z.infer<typeof pagerSchema>;

const vmSchema = z.strictObject({
  vmm: processSchema,
  /** A part of its command line that no other process has. */
  command_line_mark: z.string().min(1),
  accelerator: z.enum(["kvm", "tcg"]),
  /** Descriptor numbers inside the VMM and the pager, by which a restarted agent finds their memory again. */
  memory_fd: count,
  pager: pagerSchema.nullable(),
  /** What both run in; null: as the agent's user, by an older agent. */
  jail: jailRecordSchema.nullable().default(null),
  /** Null: its network device leads nowhere. */
  network: slotRecordSchema.nullable().default(null),
  /** The snapshot that its memory is a difference to; null for a VM that was booted. */
  parent_id: id.nullable().default(null),
  /** How its writes are found. */
  tracking: z.enum([...trackingMethods, "private_pages"]),
  /** The kernel's marks name all that was written since the parent; otherwise the next snapshot compares. */
  marks_complete: z.boolean(),
});

/** What is needed to adopt a running VM. */
export type VmRecord = z.infer<typeof vmSchema>;

/**
 * What a lifecycle operation does. `auto_pause` is a pause that the agent began by itself; `snapshot` keeps a snapshot of
 * the sandbox, `snapshot_and_destroy` turns the sandbox into one.
 */
export const operationKinds = [
  "create",
  "pause",
  "auto_pause",
  "resume",
  "snapshot",
  "snapshot_and_destroy",
  "destroy",
] as const;
/** See {@linkcode operationKinds}. */
export type OperationKind = typeof operationKinds[number];

const operationSchema = z.strictObject({
  operation_id: id,
  kind: z.enum(operationKinds),
  state: z.enum(["running", "succeeded", "failed"]),
  error_code: z.string(),
  error_message: z.string(),
  /** The kept snapshot that a `snapshot` or `snapshot_and_destroy` makes. */
  snapshot_id: id.nullable().default(null),
});

/** The operation in flight, or the last one. */
export type OperationRecord = z.infer<typeof operationSchema>;

/** `sandbox.json`, and `running.json` while a VM runs: what a restarted agent must know of a sandbox. */
export const recordSchema = z.strictObject({
  schema: z.literal(RECORD_SCHEMA),
  sandbox_id: id,
  /** Grows by one with each write: of the two files, the one with the higher number counts. */
  revision: count,
  template: z.string(),
  vcpus: z.number().int().min(1),
  memory_mb: z.number().int().min(1),
  disk_size_mb: z.number().int().min(1),
  timeout_sec: count,
  env: z.record(z.string(), z.string()),
  /** What a pause lets the guest do first, unless the pause says otherwise. */
  reclaim: reclaimCapsSchema.default(NO_RECLAIM),
  /** What it may reach. */
  network: recordedNetworkSchema.default(DEFAULT_NETWORK),
  /** Content hash of the read-only base image: the same one for as long as the sandbox lives. */
  base_image: z.string().regex(/^[0-9a-f]{8,64}$/),
  created_at_ms: count,
  last_active_at_ms: count,
  /** The newest fencing token seen. */
  version: count,
  /** Where the sandbox rests, or rested before the operation in flight. */
  state: z.enum(["new", "running", "paused", "failed"]),
  /** Why the VM went away or the last operation failed: an error code, or empty. */
  reason: z.string(),
  operation: operationSchema.nullable(),
  /** The newest committed snapshot. */
  snapshot_id: id.nullable(),
  /** Its number; 0 before the first pause. An older one that is found in its place is never taken for it. */
  generation: count.default(0),
  /** The kept snapshot that it was spawned from: whose base it can share. */
  base_snapshot_id: id.nullable().default(null),
  /** Paused by the agent itself, and the control plane has not recorded it yet. */
  auto_paused: z.boolean(),
  vm: vmSchema.nullable(),
});

/** See {@linkcode recordSchema}. */
export type SandboxRecord = z.infer<typeof recordSchema>;

/**
 * Reads a record.
 * @throws TorporError `internal`: the file is written atomically, so damage is not expected and never guessed around.
 */
export function parseRecord(text: string): SandboxRecord {
  try {
    return recordSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new TorporError("internal", "sandbox.json is invalid", { cause });
  }
}
