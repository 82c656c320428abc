import { dirname, join } from "@std/path";
import { exists } from "./command.ts";

/** A directory of the cache whose name is the hash of what it was made from. */
export interface Artefact {
  hash: string;
  directory: string;
}

/** The hash that names an artefact: SHA-256 of its inputs, first 16 bytes, hexadecimal. */
export async function hashOf(inputs: unknown): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(inputs)));
  return new Uint8Array(digest).subarray(0, 16).toHex();
}

/** Hashes the files below the given paths by name (relative to `root`) and content. */
export async function hashOfFiles(root: string, paths: readonly string[]): Promise<string> {
  const entries: [string, string][] = [];
  for (const path of paths) {
    for (const file of await filesBelow(join(root, path))) {
      const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(file));
      entries.push([file.slice(root.length), new Uint8Array(digest).toHex()]);
    }
  }
  return await hashOf(entries.sort(([left], [right]) => (left < right ? -1 : 1)));
}

/**
 * Returns the artefact, building it first when it is missing. `build` fills a staging directory, which becomes visible
 * under its final name only when everything in it is on disk. The caller holds the cache's lock.
 */
export async function buildArtefact(
  cacheDirectory: string,
  kind: string,
  hash: string,
  build: (staging: string) => Promise<void>,
): Promise<Artefact> {
  const directory = join(cacheDirectory, kind, hash);
  if (await exists(directory)) return { hash, directory };
  const staging = join(cacheDirectory, kind, `.${hash}.building`);
  // Under the lock nobody else builds: what is there was left behind by a builder that died.
  await removeTree(staging);
  await Deno.mkdir(staging, { recursive: true });
  try {
    await build(staging);
    for (const file of await filesBelow(staging)) await syncPath(file);
    await syncPath(staging);
    await Deno.rename(staging, directory);
    await syncPath(dirname(directory));
  } catch (error) {
    await removeTree(staging);
    throw error;
  }
  return { hash, directory };
}

/** Flushes a file or directory to the disk. */
export async function syncPath(path: string): Promise<void> {
  using file = await Deno.open(path);
  await file.sync();
}

/** Replaces a file by new content in one step. */
export async function replaceFile(path: string, content: string): Promise<void> {
  const temporary = `${path}.new`;
  await Deno.writeTextFile(temporary, content);
  await syncPath(temporary);
  await Deno.rename(temporary, path);
  await syncPath(dirname(path));
}

/** Removes a directory with everything in it, if it is there. */
export async function removeTree(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

async function filesBelow(path: string): Promise<string[]> {
  if (!(await Deno.stat(path)).isDirectory) return [path];
  const files: string[] = [];
  for await (const entry of Deno.readDir(path)) {
    const child = join(path, entry.name);
    if (entry.isDirectory) files.push(...await filesBelow(child));
    else if (entry.isFile) files.push(child);
  }
  return files;
}
