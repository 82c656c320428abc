import { z } from "zod";
import { TorporError } from "@torpor/errors";
import { crc32c } from "./crc32c.ts";
import { SUM_CHUNK_BYTES } from "./disk_sums.ts";

/** What a data file is called by what is in it: two files with the same name hold the same bytes. */
export interface ContentName {
  /** Bytes of the file. */
  bytes: number;
  /** See {@linkcode ContentHasher}, lower-case hexadecimal. */
  sha256: string;
}

const DIGEST_BYTES = 32;

let zeroDigest: Promise<Uint8Array<ArrayBuffer>> | undefined;

async function digest(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

/**
 * Makes the name of a file while it is read: SHA-256 over its length (8 bytes, little endian) and the SHA-256 of each
 * {@linkcode SUM_CHUNK_BYTES} of it, so that the holes of a sparse file need not be read, and other threads do the work.
 */
export class ContentHasher {
  readonly #digests: Uint8Array<ArrayBuffer>[] = [];

  /** Takes the next chunk; only the last one may be shorter. The bytes may be changed once this has resolved. */
  async add(chunk: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#digests.push(await digest(chunk));
  }

  /** Takes a whole chunk of zeros that was not read. */
  async addZeros(): Promise<void> {
    zeroDigest ??= digest(new Uint8Array(SUM_CHUNK_BYTES));
    this.#digests.push(await zeroDigest);
  }

  /** The name of everything taken. @param bytes length of the file. */
  async finish(bytes: number): Promise<ContentName> {
    const all = new Uint8Array(8 + DIGEST_BYTES * this.#digests.length);
    new DataView(all.buffer).setBigUint64(0, BigInt(bytes), true);
    this.#digests.forEach((one, index) => all.set(one, 8 + DIGEST_BYTES * index));
    const sha256 = [...await digest(all)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return { bytes, sha256 };
  }
}

const schema = z.strictObject({
  schema: z.literal(1),
  bytes: z.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  crc32c: z.number().int().min(0).max(0xffffffff),
});

function checksumOf({ bytes, sha256 }: ContentName): number {
  return crc32c(new TextEncoder().encode(`${bytes} ${sha256}`));
}

/** The text of `memory.hash` and `disk.hash`. */
export function formatContentName({ bytes, sha256 }: ContentName): string {
  return JSON.stringify({ schema: 1, bytes, sha256, crc32c: checksumOf({ bytes, sha256 }) }) + "\n";
}

/** Reads what {@linkcode formatContentName} wrote. @throws TorporError `snapshot_corrupt`. */
export function parseContentName(text: string): ContentName {
  try {
    const { bytes, sha256, crc32c: expected } = schema.parse(JSON.parse(text));
    if (checksumOf({ bytes, sha256 }) === expected) return { bytes, sha256 };
  } catch (cause) {
    throw new TorporError("snapshot_corrupt", "the content hash cannot be read", { cause });
  }
  throw new TorporError("snapshot_corrupt", "the content hash has a wrong checksum");
}
