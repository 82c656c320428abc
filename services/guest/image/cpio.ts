/** An entry of an archive. `mode` has the permission bits only. */
export type CpioEntry =
  | { type: "directory"; path: string; mode: number }
  | { type: "file"; path: string; mode: number; content: Uint8Array }
  | { type: "character-device"; path: string; mode: number; major: number; minor: number };

const TYPE_BITS = { directory: 0o040000, file: 0o100000, "character-device": 0o020000 };
const ALIGNMENT = 4;

/**
 * Packs entries, owned by root and dated 1970, into a cpio archive in the `newc` format that the kernel unpacks
 * (Documentation/driver-api/early-userspace/buffer-format.rst). The same entries give the same bytes.
 */
export function packCpio(entries: readonly CpioEntry[]): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  entries.forEach((entry, index) => append(parts, entry, index + 1));
  append(parts, { type: "file", path: "TRAILER!!!", mode: 0, content: new Uint8Array() }, 0);
  const archive = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    archive.set(part, offset);
    offset += part.length;
  }
  return archive;
}

function append(parts: Uint8Array[], entry: CpioEntry, inode: number): void {
  const content = entry.type === "file" ? entry.content : new Uint8Array();
  const name = new TextEncoder().encode(`${entry.path}\0`);
  const [major, minor] = entry.type === "character-device" ? [entry.major, entry.minor] : [0, 0];
  const links = entry.type === "directory" ? 2 : 1;
  // inode, mode, uid, gid, links, mtime, size, device (2), device of the node (2), length of the name, checksum
  const mode = TYPE_BITS[entry.type] | entry.mode;
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, major, minor, name.length, 0];
  const header = "070701" + fields.map((field) => field.toString(16).toUpperCase().padStart(8, "0")).join("");
  const head = new TextEncoder().encode(header);
  parts.push(head, name, padding(head.length + name.length), content, padding(content.length));
}

function padding(length: number): Uint8Array {
  return new Uint8Array((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);
}
