import { z } from "zod";
import { TorporError } from "@torpor/errors";
import { ID_PATTERN } from "@torpor/ids";
import { crc32c } from "./crc32c.ts";

/** The schema that this version writes. It reads schema 1, too, which had generations only. */
export const MANIFEST_SCHEMA = 2;

/** Longest name of a kept snapshot, in characters. */
export const MAX_SNAPSHOT_NAME = 128;

const id = z.string().regex(ID_PATTERN);
const count = z.number().int().nonnegative();
const checksum = z.number().int().min(0).max(0xffffffff);
const checkedFile = z.strictObject({ bytes: count, crc32c: checksum });
const contentHash = z.string().regex(/^[0-9a-f]{8,64}$/);

/** What a VMM must be to load a device state: another one is refused, never tried. */
export const vmmIdentitySchema = z.strictObject({
  driver: z.string().min(1),
  version: z.string().min(1),
  machine: z.string().min(1),
  cpu_model: z.string().min(1),
  accelerator: z.enum(["kvm", "tcg"]),
  /** With KVM the guest sees the host's CPU: its model name. Empty with TCG. */
  host_cpu: z.string(),
});

/** See {@linkcode vmmIdentitySchema}. */
export type VmmIdentity = z.infer<typeof vmmIdentitySchema>;

const schema1 = z.strictObject({
  schema: z.literal(1),
  snapshot_id: id,
  sandbox_id: id,
  /** The snapshot before, which may be gone; its data lives on while the header refers to it. */
  parent_id: id.nullable(),
  generation: z.number().int().min(1),
  created_at: z.iso.datetime(),
  vmm: vmmIdentitySchema,
  vcpus: z.number().int().min(1),
  memory_mb: z.number().int().min(1),
  disk_size_mb: z.number().int().min(1),
  template: z.string().min(1),
  /** Content hash of the read-only base image below the writable disk. */
  base_image: contentHash,
  agent_protocol: z.number().int().min(1),
  files: z.strictObject({
    state: checkedFile,
    memory_header: checkedFile,
    memory_data: checkedFile,
    /** No checksum: the disk is large, and the file system's own journal or checksums answer for it. */
    disk: z.strictObject({ bytes: count, allocated_bytes: count }),
  }),
  /** Pages of 4,096 bytes; see SnapshotInfo in proto/hostagent/v1. */
  pages: z.strictObject({ resident: count, dirty: count, data: count }),
});

/** `manifest.json`: written last, so that its presence under `snapshots/` means a whole snapshot. */
export const manifestSchema = schema1.extend({
  schema: z.literal(MANIFEST_SCHEMA),
  /**
   * `generation`: one of the states that its sandbox was paused in; the newest one is what a resume goes back to.
   * `kept`: belongs to no sandbox (`sandbox_id` says only where it came from), and stays until it is deleted by its id.
   */
  kind: z.enum(["generation", "kept"]),
  /** For people, of a kept snapshot; may be empty. */
  name: z.string().max(MAX_SNAPSHOT_NAME),
  files: schema1.shape.files.extend({
    disk: z.strictObject({
      bytes: count,
      /** What the file system has allocated for it; of a difference: what that stores. */
      allocated_bytes: count,
      /** The disk is stored as a difference to another snapshot's (`disk.header`, `disk.data`). Absent: whole, `disk.raw`. */
      difference: z.strictObject({ header: checkedFile, data: checkedFile }).optional(),
    }),
  }),
});

/** See {@linkcode manifestSchema}. */
export type Manifest = z.infer<typeof manifestSchema>;

const anySchema = z.discriminatedUnion("schema", [
  schema1.transform((old): Manifest => ({ ...old, schema: MANIFEST_SCHEMA, kind: "generation", name: "" })),
  manifestSchema.extend({ crc32c: checksum }).transform(({ crc32c: _, ...manifest }): Manifest => manifest),
]);

/** The checksum is of the text, so it is taken from what was read and not from what that means. */
const checkedSchema = z.looseObject({ schema: z.literal(MANIFEST_SCHEMA), crc32c: checksum });

/**
 * Reads a manifest of any schema as one of the newest.
 * @throws TorporError `snapshot_corrupt` naming the fields at fault.
 */
export function parseManifest(text: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TorporError("snapshot_corrupt", "the manifest is no JSON", { cause });
  }
  const result = anySchema.safeParse(value);
  if (result.success) {
    requireChecksum(value);
    return result.data;
  }
  const fields = result.error.issues.map((issue) => issue.path.join(".") || "(root)");
  throw new TorporError("snapshot_corrupt", `the manifest is invalid at ${[...new Set(fields)].join(", ")}`, {
    cause: result.error,
  });
}

/** The text that {@linkcode parseManifest} reads. */
export function formatManifest(manifest: Manifest): string {
  const checked = manifestSchema.parse(manifest);
  return JSON.stringify({ ...checked, crc32c: checksumOf(checked) }, null, 2) + "\n";
}

/** Schema 1 had none. */
function requireChecksum(value: unknown): void {
  const { success, data } = checkedSchema.safeParse(value);
  if (!success) return;
  const { crc32c: expected, ...manifest } = data;
  if (checksumOf(manifest) !== expected) throw new TorporError("snapshot_corrupt", "the manifest has a wrong checksum");
}

/** Members keep their order from text to object and back, so that writer and reader see the same compact text. */
function checksumOf(manifest: object): number {
  return crc32c(new TextEncoder().encode(JSON.stringify(manifest)));
}

/** Bytes that a generation stores: memory, disk (allocated), device state and header. */
export function storedBytes(manifest: Manifest): number {
  const { memory_data, memory_header, state, disk } = manifest.files;
  const diskHeader = disk.difference?.header.bytes ?? 0;
  return memory_data.bytes + memory_header.bytes + state.bytes + disk.allocated_bytes + diskHeader;
}
