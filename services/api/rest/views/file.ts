import { z } from "@hono/zod-openapi";
import type { FileInfo } from "@torpor/proto/hostagent";
import { isoTime } from "./time.ts";

export const fileView = z.object({
  name: z.string(),
  path: z.string(),
  type: z.enum(["file", "directory", "symlink", "other"]),
  size_bytes: z.int(),
  mode: z.string().openapi({ description: "Permission bits, octal.", example: "0644" }),
  owner: z.string(),
  group: z.string(),
  modified_at: z.iso.datetime(),
  symlink_target: z.string().optional(),
}).openapi("File");

export const fileListView = z.object({ files: z.array(fileView) }).openapi("FileList");

const FILE_TYPES = ["file", "directory", "symlink"] as const;

/** A file of a guest. */
export function viewFile(file: FileInfo): z.input<typeof fileView> {
  return {
    name: file.name,
    path: file.path,
    type: FILE_TYPES.find((type) => type === file.type) ?? "other",
    size_bytes: Number(file.sizeBytes),
    mode: file.mode.toString(8).padStart(4, "0"),
    owner: file.owner,
    group: file.group,
    modified_at: isoTime(file.modifiedUnixMs),
    ...(file.symlinkTarget === "" ? {} : { symlink_target: file.symlinkTarget }),
  };
}
