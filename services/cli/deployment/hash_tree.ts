import { createHash } from "node:crypto";
import { join } from "@std/path";

/** A short hash of the names and contents of files and directory trees: 20 hexadecimal digits. */
export async function hashTree(paths: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  for (const path of paths) await addPath(path, hash);
  return hash.digest("hex").slice(0, 20);
}

async function addPath(path: string, hash: ReturnType<typeof createHash>): Promise<void> {
  const stat = await Deno.stat(path);
  if (stat.isFile) {
    hash.update(`file ${path.slice(path.lastIndexOf("/") + 1)} ${stat.size}\n`).update(await Deno.readFile(path));
    return;
  }
  const names = (await Array.fromAsync(Deno.readDir(path))).map((entry) => entry.name).sort();
  hash.update(`directory ${names.length}\n`);
  for (const name of names) await addPath(join(path, name), hash);
}
