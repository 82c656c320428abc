import type { Confinement, Descriptor, Process } from "@torpor/ffi";
import { log } from "@torpor/telemetry";
import type { JailRecord } from "./jail_record.ts";
import type { Cgroups } from "./cgroups.ts";
import type { LeasedUser } from "./users.ts";

/** QEMU writes to a disk with up to 64 threads of its own. */
export const VMM_THREADS = 96;
/** A pager's, with what answers an operator. */
export const PAGER_THREADS = 16;
const MAX_VMM_DESCRIPTORS = 256;
/** Before other processes of the machine: a sandbox is less than what cares for all of them. */
const OOM_SCORE = 500;
/** Each fault holds up a vCPU, and takes microseconds. */
const PAGER_NICE = -10;
/** Messages of a program that writes nothing else. */
const LOG_BYTES = 2 ** 24;

/** What can be taken from a program, beside what its cgroup limits. */
export type Confined = "user" | "root" | "processes" | "network" | "capabilities" | "system_calls";

/** What an agent takes from the programs that it starts. */
export interface JailParts {
  usable: ReadonlySet<Confined>;
  root?: Descriptor;
  network?: Descriptor;
  cgroups: Cgroups;
  /** Where the native files are for a confined program. */
  nativeDirectory: string;
}

/** How one program is started in a jail: fields for `spawn`. Disposed when it has started. */
export interface Seat extends Disposable {
  readonly options: { uid?: number; gid?: number; noNewPrivileges: true; confinement: Confinement };
  readonly descriptors: { childFd: number; fd: number }[];
  /** Where it finds the native files. */
  readonly nativeDirectory: string;
  /** Tells which process has taken it: it joins the jail's cgroup, see {@linkcode Jail.entered}. */
  taken(process: Process): void;
}

/** What a VMM and its pager run in: a user for each, and a cgroup for both. Disposed after both have ended. */
export class Jail implements AsyncDisposable {
  readonly #parts: JailParts;
  readonly #vmmUser: LeasedUser | undefined;
  readonly #pagerUser: LeasedUser | undefined;
  #entering: Promise<void> = Promise.resolve();
  /** Of its cgroup. */
  readonly name: string;

  constructor(parts: JailParts, name: string, users: { vmm?: LeasedUser; pager?: LeasedUser }) {
    this.#parts = parts;
    this.name = name;
    this.#vmmUser = users.vmm;
    this.#pagerUser = users.pager;
  }

  /** How a restarted agent finds it again. */
  get record(): JailRecord {
    return { name: this.name, vmm_user: this.#vmmUser?.id ?? null, pager_user: this.#pagerUser?.id ?? null };
  }

  /**
   * A VMM's place.
   * @param leaseFd number of a descriptor that it gets and does not use. @param maxFileBytes of the largest file that it writes.
   * @throws NativeError.
   */
  vmm(leaseFd: number, maxFileBytes: number): Seat {
    const limits = { maxFileBytes, maxDescriptors: MAX_VMM_DESCRIPTORS, maxProcesses: VMM_THREADS };
    return this.#seat(this.#vmmUser, leaseFd, { ...limits, ownProcesses: this.#parts.usable.has("processes") });
  }

  /**
   * A pager's place. It keeps the number by which the host knows it: statistics name it, and of a base pager's two processes
   * each outlives the other, which in a namespace of their own the first one's end would prevent.
   * @param leaseFd as above. @param maxFileBytes of the largest file that it writes, in addition to its messages.
   * @throws NativeError.
   */
  pager(leaseFd: number, maxFileBytes = 0): Seat {
    const limits = { maxFileBytes: maxFileBytes + LOG_BYTES, maxProcesses: PAGER_THREADS };
    return this.#seat(this.#pagerUser, leaseFd, { ...limits, nice: PAGER_NICE });
  }

  /** Resolves when its processes are in its cgroup. Before that, no guest may run. @throws Deno.errors when one cannot be put there. */
  async entered(): Promise<void> {
    await this.#entering;
  }

  /** Lets go of it: its processes run on, for a later agent. */
  async release(): Promise<void> {
    this.#vmmUser?.[Symbol.dispose]();
    this.#pagerUser?.[Symbol.dispose]();
    await Promise.allSettled([this.#entering]);
  }

  /** Gives back users and cgroup. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
    if (!await this.#parts.cgroups.remove(this.name)) log("warn", "cgroup_not_removed", { name: this.name });
  }

  #seat(user: LeasedUser | undefined, leaseFd: number, own: Confinement): Seat {
    const { usable, root, network, cgroups, nativeDirectory } = this.#parts;
    using opened = new DisposableStack();
    const lease = user && opened.use(user.inherit());
    const confinement = {
      ...own,
      rootFd: root?.fd,
      networkFd: network?.fd,
      ownIpc: root !== undefined,
      dropCapabilities: usable.has("capabilities"),
      filterSystemCalls: usable.has("system_calls"),
      oomScore: OOM_SCORE,
      maxCoreBytes: 0,
    };
    const held = opened.move();
    return {
      options: { uid: user?.id, gid: user?.id, noNewPrivileges: true, confinement },
      descriptors: lease ? [{ childFd: leaseFd, fd: lease.fd }] : [],
      nativeDirectory,
      taken: ({ pid }) => {
        this.#entering = Promise.all([this.#entering, cgroups.put(this.name, pid)]).then(() => {});
        // Whoever waits for it gets the error.
        this.#entering.catch(() => {});
      },
      [Symbol.dispose]: () => held.dispose(),
    };
  }
}
