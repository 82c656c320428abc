import {
  type Descriptor,
  nativeFiles,
  openFile,
  openUserfaultfdDevice,
  type Process,
  sizeBytes,
  socketPair,
  spawn,
  unixListen,
} from "@torpor/ffi";
import type { Jail } from "../confinement/jail.ts";

/** Descriptor numbers inside a base pager: a later agent takes the files from there. */
export const BASE_PAGER_FDS = { control: 3, agentControl: 4, base: 5, header: 6, stats: 7, device: 8, prefetch: 9 };
/** Source k of the header has the number of this one plus k. */
export const FIRST_SOURCE_FD = 10;
/** Operators whose questions may wait. */
const OPERATORS_BACKLOG = 8;

/** Four to five times faster streaming than single pages (measured). */
const FAULT_AROUND_BYTES = 65_536;
/** Siblings come in bursts; a base that nobody maps is memory for nothing. */
const IDLE_MS = 15_000;

/** What a base pager works with. Disposing it closes them here. */
export class BaseFiles implements Disposable {
  constructor(
    /** The memory file that all siblings map. */
    readonly base: Descriptor,
    readonly header: Descriptor,
    readonly sources: Descriptor[],
    readonly stats: Descriptor,
  ) {}

  /** The files of a running pager. @param sourceCount sources of its header. @throws NativeError. */
  static of(process: Process, sourceCount: number): BaseFiles {
    const { base, header, stats } = BASE_PAGER_FDS;
    using opened = new DisposableStack();
    const take = (number: number) => opened.use(process.duplicateDescriptor(number));
    const sources = Array.from({ length: sourceCount }, (_, index) => take(FIRST_SOURCE_FD + index));
    const files = new BaseFiles(take(base), take(header), sources, take(stats));
    opened.move();
    return files;
  }

  /** The same files, owned by the caller. */
  dup(): BaseFiles {
    using opened = new DisposableStack();
    const again = (file: Descriptor) => opened.use(file.dup());
    const { base, header, sources, stats } = this;
    const files = new BaseFiles(again(base), again(header), sources.map(again), again(stats));
    opened.move();
    return files;
  }

  [Symbol.dispose](): void {
    for (const file of [this.base, this.header, ...this.sources, this.stats]) {
      file.close();
    }
  }
}

/** A base pager and the agent's end of its control socket, both the caller's. */
export interface BaseProcess {
  process: Process;
  control: Descriptor;
}

/** How a base pager is started. */
export interface BaseProcessOptions {
  nativeDirectory: string;
  logPath: string;
  /** Stands on the command lines of its processes, and of no other: see {@linkcode findBaseProcess}. */
  mark: string;
  /** Where it is to listen for questions about itself. */
  controlSocket: string;
  /** A working set, borrowed. */
  prefetchFd?: number;
  /** What it runs in. */
  jail?: Jail;
}

/**
 * Starts a base pager: a keeper, which is what this returns, and the server that it forks. It inherits both ends of its control socket, so that a later agent can take one from it. This agent
 * keeps only its own: with the other one open, it would not notice that nobody reads its messages any more.
 * @throws NativeError.
 */
export function startBaseProcess(files: BaseFiles, options: BaseProcessOptions): BaseProcess {
  const [theirs, control] = socketPair();
  using _theirs = theirs;
  try {
    return { process: spawnBasePager(files, theirs.fd, control.fd, options), control };
  } catch (error) {
    control.close();
    throw error;
  }
}

function spawnBasePager(
  files: BaseFiles,
  controlFd: number,
  agentControlFd: number,
  options: BaseProcessOptions,
): Process {
  const operatorsFd = FIRST_SOURCE_FD + files.sources.length;
  using seat = options.jail?.pager(operatorsFd + 1, sizeBytes(files.base.fd));
  const path = nativeFiles(seat?.nativeDirectory ?? options.nativeDirectory).basePager;
  using operators = unixListen(options.controlSocket, OPERATORS_BACKLOG);
  using device = openUserfaultfdDevice();
  using errors = openFile(options.logPath, { write: true, create: true, truncate: true });
  const numbers = BASE_PAGER_FDS;
  const sources = files.sources.map(({ fd }, index) => ({ childFd: FIRST_SOURCE_FD + index, fd }));
  const prefetch = options.prefetchFd === undefined ? [] : [{ childFd: numbers.prefetch, fd: options.prefetchFd }];
  const process = spawn({
    path,
    argv: [
      path,
      ...["--control-fd", String(numbers.control), "--base-fd", String(numbers.base)],
      ...["--header-fd", String(numbers.header), "--stats-fd", String(numbers.stats)],
      ...["--userfaultfd-device-fd", String(numbers.device), "--idle-ms", String(IDLE_MS)],
      ...["--fault-around-bytes", String(FAULT_AROUND_BYTES), "--name", options.mark],
      ...["--control-socket-fd", String(operatorsFd)],
      ...prefetch.flatMap(({ childFd }) => ["--prefetch-fd", String(childFd)]),
      ...sources.flatMap(({ childFd }) => ["--source-fd", String(childFd)]),
    ],
    env: {},
    cwd: "/",
    descriptors: [
      { childFd: numbers.control, fd: controlFd },
      { childFd: numbers.agentControl, fd: agentControlFd },
      { childFd: numbers.base, fd: files.base.fd },
      { childFd: numbers.header, fd: files.header.fd },
      { childFd: numbers.stats, fd: files.stats.fd },
      { childFd: numbers.device, fd: device.fd },
      { childFd: operatorsFd, fd: operators.fd },
      ...prefetch,
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
