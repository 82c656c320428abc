import { z } from "@hono/zod-openapi";
import { SANDBOX_STATES } from "@torpor/db";
import { environment, plainText, recordBytes } from "./text.ts";

/** The environment of a sandbox travels with each of its commands in one frame of 68 KiB (guest.v1). */
const SANDBOX_ENVIRONMENT_BYTES = 16 * 1024;

/** Seven days. */
const MAX_IDLE_SEC = 604_800;

const timeoutSec = z.int().min(0).max(MAX_IDLE_SEC);

export const metadataText = z.record(plainText(128, 1), plainText(1024))
  .refine((metadata) => Object.keys(metadata).length <= 64, "must have at most 64 entries")
  .refine((metadata) => recordBytes(metadata) <= 16 * 1024, "must have at most 16384 bytes together")
  .default({})
  .openapi({ type: "object", additionalProperties: { type: "string" }, example: { project: "notes" } });

/** What a sandbox is made of. */
export const createSandboxInput = z.strictObject({
  template: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 characters of a-z, 0-9 and "-"')
    .default("base").openapi({ description: "The image that it boots." }),
  vcpus: z.int().min(1).max(16).default(1),
  memory_mb: z.int().min(128).max(65_536).default(512).openapi({ description: "Guest RAM, MiB." }),
  disk_size_mb: z.int().min(64).max(1_048_576).default(5120).openapi({ description: "Writable disk, MiB; sparse." }),
  timeout_sec: timeoutSec.default(0).openapi({
    description: "Idle seconds after which the sandbox is paused. 0: never.",
  }),
  env: environment(SANDBOX_ENVIRONMENT_BYTES),
  metadata: metadataText,
}).openapi("CreateSandbox");

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
