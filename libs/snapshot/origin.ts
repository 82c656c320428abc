import { z } from "zod";
import { TorporError } from "@torpor/errors";
import { ID_PATTERN } from "@torpor/ids";
import type { Manifest } from "./manifest.ts";

const ORIGIN_SCHEMA = 1;

const id = z.string().regex(ID_PATTERN);
const checkedFile = z.strictObject({
  bytes: z.number().int().nonnegative(),
  crc32c: z.number().int().min(0).max(0xffffffff),
});

/**
 * `origin.json`: what is known of data whose snapshot is gone, and of data that was copied together. It says nothing that a
 * resume needs: it is for people, and for checking the data.
 */
export const originSchema = z.strictObject({
  schema: z.literal(ORIGIN_SCHEMA),
  snapshot_id: id,
  /** The sandbox that it was of; of copied data one of those that read it. */
  sandbox_id: id,
  /** `snapshot`: its manifest is gone. `compaction`: it never had one. */
  kind: z.enum(["snapshot", "compaction"]),
  generation: z.number().int().min(1),
  created_at: z.iso.datetime(),
  memory_data: checkedFile.nullable(),
  disk_data: checkedFile.nullable(),
});

/** See {@linkcode originSchema}. */
export type Origin = z.infer<typeof originSchema>;

/** What stays known of a snapshot of which only data is left. */
export function originOf(manifest: Manifest): Origin {
  const { snapshot_id, sandbox_id, generation, created_at, files } = manifest;
  return {
    schema: ORIGIN_SCHEMA,
    snapshot_id,
    sandbox_id,
    kind: "snapshot",
    generation,
    created_at,
    memory_data: files.memory_data,
    disk_data: files.disk.difference?.data ?? null,
  };
}

/** What is known of data that was copied together just now. */
export function compactionOrigin(parts: Pick<Origin, "snapshot_id" | "sandbox_id" | "generation">): Origin {
  const { snapshot_id, sandbox_id, generation } = parts;
  return {
    schema: ORIGIN_SCHEMA,
    snapshot_id,
    sandbox_id,
    kind: "compaction",
    generation,
    created_at: new Date().toISOString(),
    memory_data: null,
    disk_data: null,
  };
}

/**
 * Reads an origin.
 * @throws TorporError `snapshot_corrupt`.
 */
export function parseOrigin(text: string): Origin {
  try {
    return originSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new TorporError("snapshot_corrupt", "origin.json is invalid", { cause });
  }
}

/** The text that {@linkcode parseOrigin} reads. */
export function formatOrigin(origin: Origin): string {
  return JSON.stringify(originSchema.parse(origin), null, 2) + "\n";
}
