import {
  adoptProcess,
  type Descriptor,
  memfdCreate,
  nativeFiles,
  openFile,
  type PagerStats,
  pagerStatsSize,
  type Process,
  readFaultOrder,
  readPagerStats,
  readRemovedPages,
  spawn,
  unixListen,
} from "@torpor/ffi";
import type { Jail } from "../confinement/jail.ts";
import type { PagerRecord } from "../sandbox/record.ts";
import { handOver } from "./hand_over.ts";
import type { VmPager } from "./vm_pager.ts";

/** Descriptor numbers inside a pager. */
const HANDSHAKE_FD = 3;
const HEADER_FD = 4;
const STATS_FD = 5;
const PREFETCH_FD = 6;
const VMM_PIDFD_FD = 7;
const CONTROL_SOCKET_FD = 8;
const FIRST_SOURCE_FD = 9;
/** Operators whose questions may wait. */
const CONTROL_BACKLOG = 8;
/** Four to five times faster streaming than single pages for 10 MiB more resident memory (measured). */
const FAULT_AROUND_BYTES = 65_536;

/** What a new pager serves. All descriptors stay the caller's and may be closed when the call returns. */
export interface PagerSource {
  sandboxId: string;
  memoryBytes: number;
  /** The socket whose other end the VMM gets. */
  handshakeFd: number;
  headerFd: number;
  /** Source k of the header is sourceFds[k]. */
  sourceFds: number[];
  /** A working set to fetch ahead. */
  prefetchFd?: number;
  logPath: string;
  /** Where it is to listen for questions about itself. */
  controlSocket: string;
  nativeDirectory: string;
  /** What it runs in. */
  jail?: Jail;
}

/** The process that answers a resumed guest's page faults. Disposing it kills the process. */
export class Pager implements VmPager {
  readonly process: Process;
  readonly #stats: Descriptor;

  private constructor(process: Process, stats: Descriptor) {
    this.process = process;
    this.#stats = stats;
  }

  /** Starts a pager; it waits for the VMM's message on the socket. @throws NativeError. */
  static start(source: PagerSource): Pager {
    const stats = memfdCreate(`torpor-pager-${source.sandboxId}`, pagerStatsSize(source.memoryBytes));
    try {
      return new Pager(spawnPager(source, stats.fd), stats);
    } catch (error) {
      stats.close();
      throw error;
    }
  }

  /**
   * Starts a pager that goes on where a dead one has stopped: with its statistics, and so with the pages that the guest
   * gave back. Faults that the dead one had read, but not answered, are delivered again.
   * @param vmm the process that both serve. @throws NativeError; then `dead` is as it was.
   */
  static succeed(dead: Pager, vmm: Process, source: Omit<PagerSource, "handshakeFd">): Pager {
    using message = handOver(vmm, dead.stats(), source.memoryBytes);
    const process = spawnPager({ ...source, handshakeFd: message.fd }, dead.#stats.fd, vmm.pidfd);
    return new Pager(process, dead.#stats);
  }

  /** Finds the pager of an earlier agent again; undefined when it has ended. */
  static adopt(record: PagerRecord): Pager | undefined {
    const identity = { pid: record.pid, startTime: BigInt(record.start_time), commandLineIncludes: "torpor-pager" };
    const process = adoptProcess(identity);
    return process ? new Pager(process, process.duplicateDescriptor(record.stats_fd)) : undefined;
  }

  /** What a restarted agent needs to adopt it. */
  get record(): PagerRecord {
    return { pid: this.process.pid, start_time: String(this.process.startTime), stats_fd: STATS_FD };
  }

  stats(): PagerStats {
    return readPagerStats(this.#stats.fd);
  }

  /** Pages that the guest touched first after the resume and that had not been fetched ahead, see readFaultOrder. */
  faultOrder(): Uint32Array {
    return readFaultOrder(this.#stats.fd);
  }

  /** Pages that the guest gave back since the resume: one bit each, least significant first. */
  removedPages(): Uint8Array<ArrayBuffer> {
    return readRemovedPages(this.#stats.fd);
  }

  /** Lets go of the process: it serves on without this agent. */
  async release(): Promise<void> {
    await this.process.release();
    this.#stats.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
    this.#stats.close();
  }
}

function spawnPager(source: PagerSource, statsFd: number, vmmPidfd?: number): Process {
  using seat = source.jail?.pager(FIRST_SOURCE_FD + source.sourceFds.length);
  const path = nativeFiles(seat?.nativeDirectory ?? source.nativeDirectory).pager;
  using control = unixListen(source.controlSocket, CONTROL_BACKLOG);
  const sources = source.sourceFds.map((fd, index) => ({ childFd: FIRST_SOURCE_FD + index, fd }));
  using errors = openFile(source.logPath, { write: true, create: true, truncate: true });
  const process = spawn({
    path,
    argv: [
      path,
      ...["--handshake-fd", String(HANDSHAKE_FD), "--header-fd", String(HEADER_FD), "--stats-fd", String(STATS_FD)],
      ...["--fault-around-bytes", String(FAULT_AROUND_BYTES), "--control-socket-fd", String(CONTROL_SOCKET_FD)],
      ...(source.prefetchFd === undefined ? [] : ["--prefetch-fd", String(PREFETCH_FD)]),
      ...(vmmPidfd === undefined ? [] : ["--vmm-pidfd", String(VMM_PIDFD_FD)]),
      ...sources.flatMap(({ childFd }) => ["--source-fd", String(childFd)]),
    ],
    env: {},
    cwd: "/",
    descriptors: [
      { childFd: HANDSHAKE_FD, fd: source.handshakeFd },
      { childFd: HEADER_FD, fd: source.headerFd },
      { childFd: STATS_FD, fd: statsFd },
      ...(source.prefetchFd === undefined ? [] : [{ childFd: PREFETCH_FD, fd: source.prefetchFd }]),
      ...(vmmPidfd === undefined ? [] : [{ childFd: VMM_PIDFD_FD, fd: vmmPidfd }]),
      { childFd: CONTROL_SOCKET_FD, fd: control.fd },
      ...sources,
      ...seat?.descriptors ?? [],
    ],
    stderrFd: errors.fd,
    noNewPrivileges: true,
    ...seat?.options,
  });
  seat?.taken(process);
  return process;
}
