/** File descriptors that Deno's own API cannot give. @module */
import { check, NativeError } from "./errors.ts";
import { cString, native } from "./library.ts";

const EBADF = 9;

/**
 * Owns one file descriptor (always close-on-exec). It is closed by {@linkcode Descriptor.close} or at the end of a `using` scope and
 * never by the garbage collector. Whoever is given `.fd` borrows it: the owner must not close it before the call has settled.
 */
export class Descriptor implements Disposable {
  #fd: number;

  /** Takes over `fd`. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** The number. Throws `native_ebadf` after close, so that a number that was used again is never touched. */
  get fd(): number {
    if (this.#fd < 0) throw new NativeError("Descriptor.fd", EBADF, { detail: "closed" });
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** A second descriptor of the same open file, owned by the caller. */
  dup(): Descriptor {
    return new Descriptor(check("dup", native().torpor_duplicate(this.fd)));
  }

  /** Gives the number away: the caller closes it. */
  release(): number {
    const fd = this.fd;
    this.#fd = -1;
    return fd;
  }

  /** Closes it; nothing happens the second time. */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.release();
    check("close", native().torpor_close(fd));
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A memory file of `sizeBytes`, filled with holes and sealed against shrinking and growing. */
export function memfdCreate(name: string, sizeBytes: number): Descriptor {
  const text = cString("memfdCreate", name);
  return new Descriptor(check("memfdCreate", native().torpor_memfd_create(text, BigInt(sizeBytes)), name));
}

/** How {@linkcode openFile} opens; at least `read` or `write`. */
export interface OpenFileOptions {
  read?: boolean;
  write?: boolean;
  create?: boolean;
  truncate?: boolean;
  /** Fails with `native_eexist` when the file exists. */
  exclusive?: boolean;
  /** Fails with `native_enotdir` when it is no directory. */
  directory?: boolean;
  /** Permission bits of a new file, 0o600 by default. */
  mode?: number;
}

const openFlags = { read: 1, write: 2, create: 4, truncate: 8, exclusive: 16, directory: 32 } as const;

/** open(2). */
export function openFile(path: string, options: OpenFileOptions): Descriptor {
  let flags = 0;
  for (const [name, bit] of Object.entries(openFlags)) {
    if (options[name as keyof typeof openFlags]) flags |= bit;
  }
  const text = cString("openFile", path);
  return new Descriptor(check("openFile", native().torpor_open(text, flags, options.mode ?? 0o600), path));
}

/**
 * `/dev/userfaultfd`, to be handed to a VMM: with it an unprivileged process can make a userfaultfd that sees the kernel's own
 * accesses. `native_eacces` or `native_enoent` when this host does not offer it.
 */
export function openUserfaultfdDevice(): Descriptor {
  return new Descriptor(check("openUserfaultfdDevice", native().torpor_open_userfaultfd_device()));
}

/** Device and inode number of an open file: what the memory shim needs to recognise the guest's memory. */
export interface FileIdentity {
  readonly device: bigint;
  readonly inode: bigint;
}

export function fileIdentity(fd: number): FileIdentity {
  const identity = new BigUint64Array(2);
  check("fileIdentity", native().torpor_identity(fd, identity));
  return { device: identity[0]!, inode: identity[1]! };
}
