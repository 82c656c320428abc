import { memfdCreate, NativeError, pagerStatsSize, type Process } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import { log } from "@torpor/telemetry";
import type { Jail, Jails } from "../confinement/mod.ts";
import type { PagerRecord } from "../sandbox/record.ts";
import { removeIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import type { BaseProcessOptions } from "./base_process.ts";
import { findMemoryFile, runningBases } from "./find_base_process.ts";
import { handOver } from "./hand_over.ts";
import { type BaseSource, SharedBase } from "./shared_base.ts";
import { Sibling } from "./sibling.ts";

/** The shared bases of this host: at most one per snapshot takes new siblings. */
export class SharedBases implements AsyncDisposable {
  readonly #layout: Layout;
  readonly #nativeDirectory: string;
  /** New sandboxes become siblings; otherwise only those are cared for that are siblings already. */
  readonly enabled: boolean;
  /** By snapshot: where the next sibling joins. */
  readonly #open = new Map<string, SharedBase>();
  readonly #all = new Set<SharedBase>();
  readonly #successors = new WeakMap<SharedBase, SharedBase>();
  readonly #cleanups = new Set<Promise<void>>();
  readonly #jails: Jails | undefined;
  /** Of processes that this agent has started, by their mark. */
  readonly #jailed = new Map<string, Jail>();

  constructor(host: { layout: Layout; nativeDirectory: string; enabled: boolean; jails?: Jails }) {
    this.#jails = host.jails;
    this.enabled = host.enabled;
    this.#layout = host.layout;
    this.#nativeDirectory = host.nativeDirectory;
  }

  /**
   * Makes a VMM that is about to start a sibling, in the base of its snapshot, which is started if there is none.
   * @param socketFd where the VMM's message will arrive; borrowed.
   * @throws NativeError.
   */
  async join(
    source: BaseSource,
    socketFd: number,
  ): Promise<Sibling> {
    const base = this.#open.get(source.snapshotId) ?? await this.#start(source);
    try {
      return await this.#enter(base, socketFd);
    } catch (error) {
      this.#noteEnd(base, error);
      return await this.#enter(this.#open.get(source.snapshotId) ?? await this.#start(source), socketFd);
    }
  }

  /** The base of a snapshot, if one takes siblings now: it may end at any time. */
  find(snapshotId: string): SharedBase | undefined {
    return this.#open.get(snapshotId);
  }

  /**
   * As {@linkcode join}, but only in a base that there is: its snapshot was deleted.
   * @returns undefined when there is none (any more). @throws NativeError.
   */
  async joinRunning(snapshotId: string, socketFd: number): Promise<Sibling | undefined> {
    const base = this.#open.get(snapshotId);
    if (!base) return undefined;
    try {
      return await this.#enter(base, socketFd);
    } catch (error) {
      this.#noteEnd(base, error);
      return undefined;
    }
  }

  /** Finds a sibling's base again; undefined when both of its processes have ended. @throws NativeError. */
  adopt(record: PagerRecord, memoryBytes: number): Sibling | undefined {
    if (!record.base) return undefined;
    const { mark } = record.base;
    const known = [...this.#all].find((base) =>
      base.process.pid === record.pid || (mark !== undefined && base.mark === mark)
    );
    const base = known ?? SharedBase.adopt({ ...record.base, ...identityOf(record) }, memoryBytes);
    if (!base || base.ended) return undefined;
    if (!known) this.#remember(base);
    base.enter();
    try {
      const number = statsNumber(base, record);
      return new Sibling(base, number, base.process.duplicateDescriptor(number));
    } catch (error) {
      base.leave();
      throw error;
    }
  }

  /**
   * Takes note of what serves a sibling whose base's keeper was killed. That is the server, which has become the keeper, and the sibling
   * goes on sharing; or, when it was killed, too, one that is started here, the same one for all siblings.
   * @returns what takes the place of `dead`. @throws NativeError; then `dead` is as it was.
   */
  async succeed(dead: Sibling, vmm: Process): Promise<Sibling> {
    const base = this.#successorOf(dead.base);
    if (base.mark === dead.base.mark) return moved(dead, base);
    using message = handOver(vmm, dead.stats(), base.memoryBytes);
    const stats = dead.statsDescriptor;
    const number = await base.join({ socketFd: message.fd, statsFd: stats.fd, vmmPidfd: vmm.pidfd });
    dead.base.leave();
    return new Sibling(base, number, stats);
  }

  /** Ends the processes that nobody needs, and lets go of the others. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#all].map((base) => base.letGo()));
    await Promise.all(this.#cleanups);
    await Promise.all([...this.#jailed.values()].map((jail) => jail.release()));
  }

  async #start(source: BaseSource): Promise<SharedBase> {
    await Deno.mkdir(this.#layout.bases, { recursive: true, mode: 0o700 });
    // Another sibling may have started it meanwhile.
    const there = this.#open.get(source.snapshotId);
    if (there) return there;
    const base = this.#spawn(source, (options) => SharedBase.start(source, options));
    this.#remember(base);
    log("info", "shared_base_started", { snapshot_id: source.snapshotId, pid: base.process.pid });
    return base;
  }

  async #enter(base: SharedBase, socketFd: number): Promise<Sibling> {
    const stats = memfdCreate(`torpor-sibling-${base.snapshotId}`, pagerStatsSize(base.memoryBytes));
    try {
      return new Sibling(base, await base.join({ socketFd, statsFd: stats.fd }), stats);
    } catch (error) {
      stats.close();
      throw error;
    }
  }

  /** A base that had nobody to serve for a while has just ended. @throws `error` when it says something else. */
  #noteEnd(base: SharedBase, error: unknown): void {
    if (!(error instanceof NativeError) || error.code !== "native_epipe") throw error;
    log("info", "shared_base_ended", { snapshot_id: base.snapshotId, pid: base.process.pid });
    this.#forget(base);
  }

  #successorOf(dead: SharedBase): SharedBase {
    const there = this.#successors.get(dead);
    if (there) return there;
    const survivor = dead.survivor();
    const base = survivor ?? this.#spawn(dead, (options) => dead.succeed(options));
    const attributes = { snapshot_id: dead.snapshotId, pid: base.process.pid, shared: survivor !== undefined };
    log("warn", "shared_base_succeeded", attributes);
    this.#successors.set(dead, base);
    this.#remember(base);
    return base;
  }

  #spawn(
    { snapshotId, memoryBytes }: { snapshotId: string; memoryBytes: number },
    start: (options: BaseProcessOptions) => SharedBase,
  ): SharedBase {
    const mark = newId();
    const jail = this.#jails?.createBase(mark, memoryBytes);
    if (jail) this.#jailed.set(mark, jail);
    try {
      return start({
        nativeDirectory: this.#nativeDirectory,
        logPath: this.#layout.baseLog(snapshotId),
        controlSocket: this.#layout.baseSocket(mark),
        mark,
        jail,
      });
    } catch (error) {
      this.#cleanUp(mark);
      throw error;
    }
  }

  /** Both of its processes have ended. */
  #cleanUp(mark: string): void {
    this.#remove(this.#layout.baseSocket(mark));
    const jail = this.#jailed.get(mark);
    this.#jailed.delete(mark);
    this.#inBackground((jail?.release() ?? Promise.resolve()).then(() => this.#jails?.removeBase(mark)));
  }

  #remember(base: SharedBase): void {
    this.#all.add(base);
    if (!base.successor && !this.#open.has(base.snapshotId)) this.#open.set(base.snapshotId, base);
    base.process.exited.then((exit) => {
      this.#forget(base);
      // One that gave up has said why, and what is left of one that was killed may go on saying.
      if (!exit.code && exit.signal === null) this.#remove(this.#layout.baseLog(base.snapshotId));
      if (base.mark && (exit.code === 0 || !runningBases([base.mark]).has(base.mark))) this.#cleanUp(base.mark);
    });
  }

  #remove(path: string): void {
    this.#inBackground(removeIfPresent(path));
  }

  #inBackground(work: Promise<void>): void {
    const cleanup = work.finally(() => this.#cleanups.delete(cleanup));
    this.#cleanups.add(cleanup);
  }

  #forget(base: SharedBase): void {
    this.#all.delete(base);
    if (this.#open.get(base.snapshotId) === base) this.#open.delete(base.snapshotId);
  }
}

/** The number of a sibling's statistics in the base's process: another one when that is not the process of the record. */
function statsNumber({ process }: SharedBase, { pid, stats_fd, stats_inode }: PagerRecord): number {
  if (process.pid === pid || stats_inode === undefined) return stats_fd;
  return findMemoryFile(process, BigInt(stats_inode));
}

/** The sibling in the process that is left of its base; it has been served all the time. */
function moved(sibling: Sibling, base: SharedBase): Sibling {
  const number = statsNumber(base, sibling.record);
  base.enter();
  sibling.base.leave();
  return new Sibling(base, number, sibling.statsDescriptor);
}

function identityOf({ pid, start_time }: PagerRecord): { pid: number; start_time: string } {
  return { pid, start_time };
}
