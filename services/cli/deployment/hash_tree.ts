import { createHash, type Hash } from "node:crypto";
import { join } from "@std/path";

/**
 * A short hash of the names and contents of files and directory trees: 20 hexadecimal digits.
 * @param counts tells by a file's or directory's name whether it counts; by default all do.
 */
export async function hashTree(
  paths: readonly string[],
  counts: (entry: { name: string; isDirectory: boolean }) => boolean = () => true,
): Promise<string> {
  const hash = createHash("sha256");
  for (const path of paths) await addPath(path, hash, counts);
  return hash.digest("hex").slice(0, 20);
}

async function addPath(path: string, hash: Hash, counts: NonNullable<Parameters<typeof hashTree>[1]>): Promise<void> {
  const stat = await Deno.stat(path);
  if (stat.isFile) {
    hash.update(`file ${path.slice(path.lastIndexOf("/") + 1)} ${stat.size}\n`).update(await Deno.readFile(path));
    return;
  }
  const names = (await Array.fromAsync(Deno.readDir(path))).filter(counts).map((entry) => entry.name).sort();
  hash.update(`directory ${names.length}\n`);
  for (const name of names) await addPath(join(path, name), hash, counts);
}
