import { scaledTimeoutMs } from "@torpor/config";
import {
  adoptProcess,
  type Descriptor,
  joinBase,
  memfdCreate,
  openFile,
  type PagerStats,
  pagerStatsSize,
  type Process,
  readFaultOrder,
  readPagerStats,
} from "@torpor/ffi";
import { decodeHeader, type ExtentTable } from "@torpor/snapshot";
import type { BaseRecord } from "../sandbox/record.ts";
import {
  BASE_PAGER_FDS,
  BaseFiles,
  type BaseProcess,
  type BaseProcessOptions,
  startBaseProcess,
} from "./base_process.ts";
import { findBaseProcess } from "./find_base_process.ts";

/** A pager answers at once; one that is busy reads a slow disk. */
const JOIN_TIMEOUT_MS = scaledTimeoutMs(30_000);
const SIGTERM = 15;

/** The snapshot that siblings share. */
export interface BaseSource {
  snapshotId: string;
  memoryBytes: number;
  headerPath: string;
  /** `memory.data` of each source of the header. */
  sourcePaths: string[];
  /** A working set to fetch ahead. */
  workingSetPath?: string;
}

interface BaseParts extends BaseProcess {
  snapshotId: string;
  memoryBytes: number;
  mark: string | undefined;
  successor: boolean;
  table: ExtentTable;
  files: BaseFiles;
}

/**
 * The memory of a snapshot on this host, and the process that fills it as it is needed. Many VMMs map it privately:
 * docs/decisions/0008-shared-base.md. It lives as long as it is used, with or without this agent.
 */
export class SharedBase {
  readonly snapshotId: string;
  readonly memoryBytes: number;
  /** Its keeper. What serves has a process of its own, and each of the two replaces the other: ffi/src/base_pager_pair.c. */
  readonly process: Process;
  /** Stands on the command lines of its processes; not known of one that an older agent has started. */
  readonly mark: string | undefined;
  /** Its processes took the place of two that were killed: they serve whom those served, and nobody else. */
  readonly successor: boolean;
  /** What it is filled with. The snapshot's own table may have been rewritten since: the bytes are the same. */
  readonly table: ExtentTable;
  readonly #files: BaseFiles;
  readonly #control: Descriptor;
  #members = 0;
  #ended = false;
  #released = false;

  private constructor(parts: BaseParts) {
    this.snapshotId = parts.snapshotId;
    this.memoryBytes = parts.memoryBytes;
    this.process = parts.process;
    this.mark = parts.mark;
    this.successor = parts.successor;
    this.table = parts.table;
    this.#files = parts.files;
    this.#control = parts.control;
    this.process.exited.then(() => {
      this.#ended = true;
      this.#closeUnused();
    });
  }

  /** @throws NativeError. */
  static start(source: BaseSource, options: BaseProcessOptions): SharedBase {
    const { snapshotId, memoryBytes } = source;
    using opened = new DisposableStack();
    const read = (path: string) => opened.use(openFile(path, { read: true }));
    const files = new BaseFiles(
      opened.use(memfdCreate(`torpor-base-${snapshotId}`, memoryBytes)),
      read(source.headerPath),
      source.sourcePaths.map(read),
      opened.use(memfdCreate(`torpor-base-pager-${snapshotId}`, pagerStatsSize(memoryBytes))),
    );
    const table = tableOf(files);
    using prefetch = source.workingSetPath ? openFile(source.workingSetPath, { read: true }) : undefined;
    const started = startBaseProcess(files, { ...options, prefetchFd: prefetch?.fd });
    opened.move();
    return new SharedBase({ snapshotId, memoryBytes, table, mark: options.mark, successor: false, files, ...started });
  }

  /** Finds the base of an earlier agent again; undefined when both of its processes have ended. @throws NativeError. */
  static adopt(record: BaseRecord, memoryBytes: number): SharedBase | undefined {
    const { pid, start_time, snapshot_id: snapshotId, source_count, successor, mark } = record;
    const identity = { pid, startTime: BigInt(start_time), commandLineIncludes: "torpor-base-pager" };
    const process = adoptProcess(identity) ?? (mark === undefined ? undefined : findBaseProcess(mark));
    if (!process) return undefined;
    using opened = new DisposableStack();
    const control = opened.use(process.duplicateDescriptor(BASE_PAGER_FDS.agentControl));
    const files = opened.use(BaseFiles.of(process, source_count));
    const table = tableOf(files);
    opened.move();
    return new SharedBase({ snapshotId, memoryBytes, table, mark, successor, files, process, control });
  }

  /** The same base with another process, after its own was killed: the one that is left serves on. @throws NativeError. */
  survivor(): SharedBase | undefined {
    const { snapshotId, memoryBytes, table, mark, successor } = this;
    const process = mark === undefined ? undefined : findBaseProcess(mark);
    if (!process) return undefined;
    const files = this.#files.dup();
    return new SharedBase({
      snapshotId,
      memoryBytes,
      table,
      mark,
      successor,
      files,
      process,
      control: this.#control.dup(),
    });
  }

  /** Starts processes in the place of those that were killed. @throws NativeError. */
  succeed(options: BaseProcessOptions): SharedBase {
    const { snapshotId, memoryBytes, table } = this;
    const files = this.#files.dup();
    try {
      const started = startBaseProcess(files, options);
      return new SharedBase({ snapshotId, memoryBytes, table, mark: options.mark, successor: true, files, ...started });
    } catch (error) {
      files[Symbol.dispose]();
      throw error;
    }
  }

  /** How a restarted agent finds it again. */
  get record(): BaseRecord {
    return {
      pid: this.process.pid,
      start_time: String(this.process.startTime),
      snapshot_id: this.snapshotId,
      source_count: this.#files.sources.length,
      successor: this.successor,
      mark: this.mark,
    };
  }

  /** Its process has ended. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Somebody uses it, this agent or a later one. */
  get inUse(): boolean {
    return this.#members > 0 || this.#released;
  }

  /** The memory file, borrowed. */
  get memoryFd(): number {
    return this.#files.base.fd;
  }

  /** What its process has done for all siblings. */
  stats(): PagerStats {
    return readPagerStats(this.#files.stats.fd);
  }

  /** See {@linkcode VmPager.faultOrder}: of the first sibling, mostly, as the others find its pages there. */
  faultOrder(): Uint32Array {
    return readFaultOrder(this.#files.stats.fd);
  }

  /** The memory file for a VMM: it can read it and map it privately. The caller's. */
  openForVmm(): Descriptor {
    return openFile(`/proc/self/fd/${this.#files.base.fd}`, { read: true });
  }

  /**
   * Has the process serve one more VMM; `leave` is owed for each.
   * @returns the number of `statsFd` inside the process. @throws NativeError `native_epipe` when it has ended.
   */
  async join(sibling: { socketFd: number; statsFd: number; vmmPidfd?: number }): Promise<number> {
    this.enter();
    try {
      return await joinBase(this.#control.fd, { ...sibling, timeoutMs: JOIN_TIMEOUT_MS });
    } catch (error) {
      this.leave();
      throw error;
    }
  }

  /** One more uses it: an adopted sibling has joined long ago. */
  enter(): void {
    this.#members++;
  }

  /** One that has joined is gone. The process notices by itself. */
  leave(): void {
    this.#members--;
    this.#closeUnused();
  }

  /** One that has joined goes on without this agent. */
  leaveRunning(): void {
    this.#released = true;
    this.leave();
  }

  /** Ends the processes, or lets go of them where somebody uses them. */
  async letGo(): Promise<void> {
    if (!this.inUse) return await this.#end();
    if (!this.#ended) await this.process.release();
    this.#close();
  }

  /** A keeper that is asked to end ends the server first; killed, it would leave that to find out. */
  async #end(): Promise<void> {
    this.process.signal(SIGTERM);
    await this.process.exited;
  }

  #closeUnused(): void {
    if (this.#ended && this.#members === 0) this.#close();
  }

  #close(): void {
    this.#files[Symbol.dispose]();
    this.#control.close();
  }
}

/** What the header says. @throws TorporError `snapshot_corrupt`. */
function tableOf({ header }: BaseFiles): ExtentTable {
  return decodeHeader(Deno.readFileSync(`/proc/self/fd/${header.fd}`));
}
