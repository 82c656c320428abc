import { z } from "@hono/zod-openapi";
import { SANDBOX_STATES, type SandboxSpec } from "@torpor/db";
import { hostLabels, requiredCapabilities } from "./host.ts";
import { sandboxNetwork } from "./network.ts";
import { reclaimCaps } from "./reclaim.ts";
import { snapshotReference } from "./snapshot.ts";
import { environment, plainText, recordBytes } from "./text.ts";

/** The environment of a sandbox travels with each of its commands in one frame of 68 KiB (guest.v1). */
const SANDBOX_ENVIRONMENT_BYTES = 16 * 1024;

/** Seven days. */
const MAX_IDLE_SEC = 604_800;

/** Ten years. */
const MAX_LIFE_SEC = 315_360_000;

export const timeoutSec = z.int().min(0).max(MAX_IDLE_SEC);

export const autoDeleteAfterSec = z.int().min(0).max(MAX_LIFE_SEC);
export const ttlSec = z.int().min(0).max(MAX_LIFE_SEC);
export const onTtl = z.enum(["pause", "delete"]);

/** How long a sandbox lasts where its creator does not say: what the deployment was configured with. */
export type Lifetimes = Pick<SandboxSpec, "timeoutSec" | "autoDeleteAfterSec" | "ttlSec" | "onTtl">;

/** Without any configuration a sandbox lasts until it is deleted. */
export const FOR_EVER: Lifetimes = { timeoutSec: 0, autoDeleteAfterSec: 0, ttlSec: 0, onTtl: "pause" };

const metadataRecord = z.record(plainText(128, 1), plainText(1024))
  .refine((metadata) => Object.keys(metadata).length <= 64, "must have at most 64 entries")
  .refine((metadata) => recordBytes(metadata) <= 16 * 1024, "must have at most 16384 bytes together")
  .openapi({ type: "object", additionalProperties: { type: "string" }, example: { project: "notes" } });

export const metadataText = metadataRecord.default({});

/** What a sandbox that boots is made of where its creator does not say. */
export const SANDBOX_DEFAULTS = { template: "base", vcpus: 1, memory_mb: 512, disk_size_mb: 5120 } as const;

const BY_DEFAULT = "Absent: what the deployment does by default.";

const LOCKED = "From a snapshot it is the snapshot's; another value is refused.";

/** What a sandbox is made of. Without a default: SANDBOX_DEFAULTS, or what the snapshot has. */
export const createSandboxInput = z.strictObject({
  snapshot: snapshotReference.optional().openapi({
    description: "Id or name of a snapshot: the sandbox goes on where that was taken instead of booting.",
  }),
  template: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 characters of a-z, 0-9 and "-"').optional()
    .openapi({ description: `The image that it boots. ${LOCKED}`, default: SANDBOX_DEFAULTS.template }),
  vcpus: z.int().min(1).max(16).optional().openapi({ description: LOCKED, default: SANDBOX_DEFAULTS.vcpus }),
  memory_mb: z.int().min(128).max(65_536).optional()
    .openapi({ description: `Guest RAM, MiB. ${LOCKED}`, default: SANDBOX_DEFAULTS.memory_mb }),
  disk_size_mb: z.int().min(64).max(1_048_576).optional()
    .openapi({ description: `Writable disk, MiB; sparse. ${LOCKED}`, default: SANDBOX_DEFAULTS.disk_size_mb }),
  timeout_sec: timeoutSec.optional().openapi({
    description: `Idle seconds after which the sandbox is paused. 0: never. ${BY_DEFAULT}`,
  }),
  auto_delete_after_sec: autoDeleteAfterSec.optional().openapi({
    description: `Seconds in state paused after which the sandbox is deleted. 0: never. ${BY_DEFAULT}`,
  }),
  ttl_sec: ttlSec.optional().openapi({
    description: "However busy it is: seconds that it may exist (on_ttl delete), or run since its creation or last " +
      `resume (on_ttl pause). 0: no limit. ${BY_DEFAULT}`,
  }),
  on_ttl: onTtl.optional().openapi({ description: `What happens after ttl_sec. ${BY_DEFAULT}` }),
  env: environment(SANDBOX_ENVIRONMENT_BYTES),
  metadata: metadataText,
  reclaim: reclaimCaps.optional().openapi({ description: "Absent: what the deployment does by default." }),
  auto_resume: z.boolean().default(false).openapi({
    description: "A request to one of its ports resumes it when it is paused, and waits for that.",
  }),
  network: sandboxNetwork.optional().openapi({
    description: "What it may reach. Absent: everything but what no sandbox may reach.",
  }),
  host_labels: hostLabels.optional().openapi({ description: "Only hosts that have all of these labels." }),
  required_capabilities: requiredCapabilities.optional().openapi({
    description: "Only hosts that have all of these capabilities (GET /v1/hosts).",
    example: ["accelerator:kvm"],
  }),
}).openapi("CreateSandbox");

export const pauseSandboxInput = z.strictObject({
  reclaim: reclaimCaps.optional().openapi({ description: "Absent: the sandbox's own." }),
}).openapi("PauseSandbox");

export const forkSandboxInput = z.strictObject({
  count: z.int().min(1).max(32).default(1),
  metadata: metadataRecord.optional().openapi({ description: "Of the children. Absent: the source's." }),
  timeout_sec: timeoutSec.optional().openapi({ description: "Of the children. Absent: the source's." }),
}).openapi("ForkSandbox");

export const resumeSandboxInput = z.strictObject({
  timeout_sec: timeoutSec.optional().openapi({ description: "A new idle timeout, seconds. Absent: as before." }),
}).openapi("ResumeSandbox");

export const sandboxState = z.enum(SANDBOX_STATES).openapi("SandboxState");

export const listSandboxesInput = z.strictObject({
  state: z.array(sandboxState).max(SANDBOX_STATES.length).default([]),
  metadata: metadataText,
  limit: z.int().min(1).max(1000).default(100),
  cursor: z.string().max(200).default(""),
});

/** A key that makes repeats of a lifecycle call harmless. */
export const idempotencyKey = plainText(200, 1);

/** The same as a header of REST calls. */
export const idempotencyHeader = z.object({
  "idempotency-key": idempotencyKey.optional().openapi({
    param: { in: "header" },
    description: "A repeat with the same key and body returns the first answer, for a day.",
  }),
});

/** The same as a field of ConnectRPC calls. */
export const idempotencyInput = z.object({ idempotency_key: idempotencyKey });
