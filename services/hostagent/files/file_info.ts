import { create } from "@bufbuild/protobuf";
import { type FileEntry, FileType } from "@torpor/proto/guest";
import { type FileInfo, FileInfoSchema } from "@torpor/proto/hostagent";

const LARGEST_INT64 = 2n ** 63n - 1n;

const TYPE_NAMES: Record<FileType, string> = {
  [FileType.UNSPECIFIED]: "other",
  [FileType.FILE]: "file",
  [FileType.DIRECTORY]: "directory",
  [FileType.SYMLINK]: "symlink",
  [FileType.OTHER]: "other",
};

/** What callers learn of a file. */
export function fileInfo(entry: FileEntry): FileInfo {
  return create(FileInfoSchema, {
    name: entry.name,
    path: entry.path,
    type: TYPE_NAMES[entry.type] ?? "other",
    sizeBytes: entry.sizeBytes < LARGEST_INT64 ? entry.sizeBytes : LARGEST_INT64,
    mode: entry.mode,
    owner: entry.owner,
    group: entry.group,
    modifiedUnixMs: entry.modifiedUnixNs / 1_000_000n,
    symlinkTarget: entry.symlinkTarget,
  });
}
