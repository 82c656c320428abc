/** Taking from programs what they do not need: namespaces, limits, capabilities, users of their own. @module */
import { Descriptor } from "./descriptor.ts";
import { check, NativeError } from "./errors.ts";
import { cString, native } from "./library.ts";

/** What a program that is spawned can do no more. All descriptors stay the caller's. */
export interface Confinement {
  /** A root directory ({@linkcode makeRoot}): the program gets a copy of its own, with a /proc of its own. Absent: this process's. */
  readonly rootFd?: number;
  /** A network namespace. Absent: this process's. */
  readonly networkFd?: number;
  /** It sees no other process. What it forks ends with it. */
  readonly ownProcesses?: boolean;
  /** It shares no System V IPC and no message queues, and does not see which cgroup is this process's. */
  readonly ownIpc?: boolean;
  /** Priority, given before the right to it is gone; -20 to 19. */
  readonly nice?: number;
  /** No capability is left, not even for what runs as root. Needs to be root. */
  readonly dropCapabilities?: boolean;
  /** Refuses system calls that no VMM and no pager makes; needs `noNewPrivileges`. */
  readonly filterSystemCalls?: boolean;
  /** Is chosen sooner than others when the machine has no memory left, 1 to 1000. */
  readonly oomScore?: number;
  /** Of files that it writes. */
  readonly maxFileBytes?: number;
  readonly maxDescriptors?: number;
  /** Of its user, threads included. */
  readonly maxProcesses?: number;
  readonly maxCoreBytes?: number;
}

/** Words of 32 bits before the limits. */
const WORDS = 8;
const UNLIMITED = 2n ** 64n - 1n;
const EWOULDBLOCK = 11;

/** `struct torpor_confinement` of include/torpor.h. */
export function packConfinement(confinement: Confinement): Uint8Array<ArrayBuffer> {
  const { rootFd = -1, networkFd = -1, nice = 0, oomScore = 0 } = confinement;
  const bytes = new Uint8Array(WORDS * 4 + 4 * 8);
  const flag = (value: boolean | undefined) => value ? 1 : 0;
  const { ownProcesses, ownIpc, dropCapabilities, filterSystemCalls } = confinement;
  const words = [rootFd, networkFd, flag(ownProcesses), flag(ownIpc), nice, flag(dropCapabilities)];
  words.push(flag(filterSystemCalls), oomScore);
  new Int32Array(bytes.buffer, 0, WORDS).set(words);
  const { maxFileBytes, maxDescriptors, maxProcesses, maxCoreBytes } = confinement;
  const limits = [maxFileBytes, maxDescriptors, maxProcesses, maxCoreBytes];
  new BigUint64Array(bytes.buffer, WORDS * 4).set(limits.map((most) => most === undefined ? UNLIMITED : BigInt(most)));
  return bytes;
}

/**
 * Makes a root directory for programs: the given files and directories, read-only, and a /dev with nothing but null, zero, full, random,
 * urandom and, where there is one, kvm. Needs CAP_SYS_ADMIN; takes about a millisecond.
 * @param content path in the new root ← path here. Symbolic links stay what they are.
 * @returns the mount namespace, for {@linkcode Confinement.rootFd}.
 */
export function makeRoot(content: Readonly<Record<string, string>>): Descriptor {
  const strings = Object.entries(content).flatMap(([there, here]) => [here, there]);
  const packed = cStrings("makeRoot", strings);
  return new Descriptor(check("makeRoot", native().torpor_make_root(packed, BigInt(packed.byteLength))));
}

/** Makes a network without any device that is up, for {@linkcode Confinement.networkFd}. Needs CAP_SYS_ADMIN. */
export function makeEmptyNetwork(): Descriptor {
  return new Descriptor(check("makeEmptyNetwork", native().torpor_make_network()));
}

/**
 * Takes all capabilities but these from this process and everything that it starts from now on, for good.
 * @param keep numbers as in linux/capability.h. Those that it does not have it does not get.
 */
export function keepCapabilities(keep: readonly number[]): void {
  const bits = keep.reduce((mask, capability) => mask | 1n << BigInt(capability), 0n);
  check("keepCapabilities", native().torpor_keep_capabilities(bits));
}

/**
 * Takes a number, for which the file at `path` (made if needed) stands: for as long as a descriptor of it is open, here or in a process
 * that has inherited one, it is taken. Undefined when it is taken already.
 */
export function takeLease(path: string): Descriptor | undefined {
  const fd = native().torpor_take_lease(cString("takeLease", path));
  return fd === -EWOULDBLOCK ? undefined : new Descriptor(check("takeLease", fd, path));
}

/** One more descriptor of a number that is taken, to be inherited or kept. `native_eagain` when somebody is just trying to take it. */
export function shareLease(path: string): Descriptor {
  return new Descriptor(check("shareLease", native().torpor_share_lease(cString("shareLease", path)), path));
}

function cStrings(operation: string, strings: readonly string[]): Uint8Array<ArrayBuffer> {
  if (strings.some((text) => text.includes("\0"))) throw new NativeError(operation, 22, { detail: "NUL in a string" });
  return new TextEncoder().encode(strings.join("\0") + "\0");
}
