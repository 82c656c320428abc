import { NativeError, openFile, pread } from "@torpor/ffi";
import { isId, newId } from "@torpor/ids";
import { log } from "@torpor/telemetry";
import { Buffer } from "node:buffer";
import { namesIn, removeIfPresent, statIfPresent, syncPath } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import type { SnapshotStore } from "./rewrite.ts";
import { readContentName } from "./verify_data.ts";

/** Compared at once. */
const BUFFER_BYTES = 2 ** 20;

/** A data file with the name of its content. */
interface NamedFile {
  path: string;
  directory: string;
  status: Deno.FileInfo;
}

/**
 * Stores data files with the same content once: all but one of them become further names (hard links) of that one. The file
 * system counts who refers to it, so releasing a snapshot is what it was. The bytes themselves are compared before, so that
 * no good file gives way to one that the medium has damaged since it was named. Each file is exchanged in one step of the
 * file system: a reader, a crash, or a release at any moment finds the same bytes.
 * @returns bytes saved. @throws Deno.errors, NativeError: what was shared until then stays so; the signal's reason.
 */
export async function shareEqualData(store: SnapshotStore, signal?: AbortSignal): Promise<number> {
  let saved = 0;
  for (const files of (await filesByContent(store.layout)).values()) {
    const [kept, ...others] = files.toSorted((one, other) => (other.status.nlink ?? 1) - (one.status.nlink ?? 1));
    for (const other of others) {
      signal?.throwIfAborted();
      if (other.status.ino === kept!.status.ino) continue;
      if (!await isSame(kept!.path, other.path, kept!.status.size, signal)) {
        log("warn", "equal_data_differs", { path: kept!.path, other: other.path });
        continue;
      }
      saved += await replaceByLink(store, kept!, other);
    }
  }
  return saved;
}

async function filesByContent(layout: Layout): Promise<Map<string, NamedFile[]>> {
  const byContent = new Map<string, NamedFile[]>();
  for (const id of (await namesIn(layout.snapshots)).filter(isId)) {
    const { directory, memoryData, memoryHash, disk, diskData, diskHash } = layout.snapshot(id);
    for (const [path, name] of [[memoryData, memoryHash], [disk, diskHash], [diskData, diskHash]] as const) {
      const content = await readContentName(name);
      const status = content && await statIfPresent(path);
      if (!status || status.size !== content.bytes) continue;
      const files = byContent.get(content.sha256) ?? [];
      byContent.set(content.sha256, [...files, { path, directory, status }]);
    }
  }
  return byContent;
}

/** False also when one of them has gone. */
async function isSame(one: string, other: string, bytes: number, signal?: AbortSignal): Promise<boolean> {
  try {
    using files = new DisposableStack();
    const open = (path: string) => files.use(openFile(path, { read: true })).fd;
    const descriptors = [open(one), open(other)] as const;
    const [mine, its] = [new Uint8Array(BUFFER_BYTES), new Uint8Array(BUFFER_BYTES)];
    for (let at = 0; at < bytes; at += BUFFER_BYTES) {
      signal?.throwIfAborted();
      const length = Math.min(BUFFER_BYTES, bytes - at);
      const [a, b] = [mine.subarray(0, length), its.subarray(0, length)];
      if (await pread(descriptors[0], a, at) !== length || await pread(descriptors[1], b, at) !== length) return false;
      if (Buffer.compare(a, b) !== 0) return false;
    }
    return true;
  } catch (error) {
    if (error instanceof NativeError) return false;
    throw error;
  }
}

/** @returns bytes saved: none while somebody else has a name of the replaced file. */
async function replaceByLink({ layout, onStep }: SnapshotStore, kept: NamedFile, other: NamedFile): Promise<number> {
  const temporary = `${layout.staging}/${newId()}.shared`;
  await Deno.mkdir(layout.staging, { recursive: true, mode: 0o700 });
  try {
    await Deno.link(kept.path, temporary);
    onStep?.("share.rename");
    // What became of the other since it was looked at: its name must not come back to a directory that has given it up.
    const now = await statIfPresent(other.path);
    if (now?.ino !== other.status.ino) return 0;
    await Deno.rename(temporary, other.path);
    onStep?.("share.sync");
    await syncPath(other.directory);
    return now.nlink === 1 ? (now.blocks ?? 0) * 512 : 0;
  } catch (error) {
    // Released meanwhile.
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  } finally {
    await removeIfPresent(temporary);
  }
}
