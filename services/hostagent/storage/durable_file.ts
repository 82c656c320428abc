import { dirname } from "@std/path";

/** Writes `path` so that after a crash it has the old content or the new one: temp file, fsync, rename, fsync(directory). */
export async function writeDurably(path: string, content: string): Promise<void> {
  const temporary = `${path}.new`;
  await writeAndSync(temporary, new TextEncoder().encode(content));
  await Deno.rename(temporary, path);
  await syncPath(dirname(path));
}

/** Writes `path` so that a reader, also after the end of this process, finds it whole. After a power loss it may be broken. */
export async function replaceUnsynced(path: string, content: string): Promise<void> {
  const temporary = `${path}.new`;
  await Deno.writeTextFile(temporary, content, { mode: 0o600 });
  await Deno.rename(temporary, path);
}

/** Creates or replaces `path` with `content` and waits until it is on disk. Not atomic: for staging directories. */
export async function writeAndSync(path: string, content: Uint8Array): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true, mode: 0o600 });
  for (let written = 0; written < content.length;) written += await file.write(content.subarray(written));
  await file.sync();
}

/** fsync of a file or a directory. A directory must be synced for the names in it to survive a power loss. */
export async function syncPath(path: string): Promise<void> {
  using file = await Deno.open(path);
  await file.sync();
}

/** Removes a file or a tree; one that does not exist is fine. */
export async function removeIfPresent(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** The text of a file, or undefined when it does not exist. */
export async function readIfPresent(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** What `lstat` says of a name, or undefined when there is none. */
export async function statIfPresent(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Whether there is something with that name. */
export async function isPresent(path: string): Promise<boolean> {
  return await statIfPresent(path) !== undefined;
}

/** The names in a directory, or none when it does not exist. */
export async function namesIn(directory: string): Promise<string[]> {
  try {
    const names: string[] = [];
    for await (const entry of Deno.readDir(directory)) names.push(entry.name);
    return names.sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
