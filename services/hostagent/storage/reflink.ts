import { copySparse, openFile } from "@torpor/ffi";
import { removeIfPresent } from "./durable_file.ts";
import { isDiskFull } from "./disk_full.ts";

/**
 * Whether a directory's file system can share blocks between files: then a copy of a disk copies no bytes. While it is full
 * that cannot be found out, and counts as no.
 */
export async function hasReflinks(directory: string): Promise<boolean> {
  const paths = ["a", "b"].map((name) => `${directory}/reflink-probe-${name}`) as [string, string];
  try {
    await Deno.writeFile(paths[0], new Uint8Array(4096).fill(1));
    using from = openFile(paths[0], { read: true });
    using to = openFile(paths[1], { read: true, write: true, create: true, truncate: true });
    return (await copySparse({ from: from.fd, to: to.fd, sizeBytes: 4096 })).method === "reflink";
  } catch (error) {
    if (!isDiskFull(error)) throw error;
    return false;
  } finally {
    for (const path of paths) await removeIfPresent(path);
  }
}
