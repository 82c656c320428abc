/** A process that is known by pidfd: signals never hit a process that was given the same number later. @module */
import { Descriptor } from "./descriptor.ts";
import { check, NativeError } from "./errors.ts";
import { preadSync } from "./file.ts";
import { openFile } from "./descriptor.ts";
import { native } from "./library.ts";
import { type ExitStatus, type Watch, watchProcess } from "./watcher.ts";

const ESRCH = 3;
const ENOENT = 2;
const SIGKILL = 9;

/**
 * A process that this agent started or found again. It lives on when the agent ends; `await using` kills it at the end of the scope,
 * {@linkcode Process.release} lets go of it.
 */
export class Process implements AsyncDisposable {
  readonly #pidfd: Descriptor;
  readonly #watch: Watch;
  /** Resolves when the process has ended; never rejects. */
  readonly exited: Promise<ExitStatus>;

  /** Takes over `pidfd`. */
  constructor(
    pidfd: Descriptor,
    readonly pid: number,
    /** Field 22 of /proc/pid/stat, clock ticks since boot: with the pid it names the process for good. */
    readonly startTime: bigint,
  ) {
    this.#pidfd = pidfd;
    this.#watch = watchProcess(pidfd.fd);
    this.exited = this.#watch.exited.then((status) => {
      pidfd.close();
      return status;
    });
  }

  /** Sends signal `number`. Returns false when the process has ended. */
  signal(number: number): boolean {
    if (this.#pidfd.closed) return false;
    const result = native().torpor_pidfd_signal(this.#pidfd.fd, number);
    if (result === -ESRCH) return false;
    check("signal", result);
    return true;
  }

  /** The process's descriptor `number`, duplicated into this process (needs the rights to trace it). Owned by the caller. */
  duplicateDescriptor(number: number): Descriptor {
    return new Descriptor(
      check("duplicateDescriptor", native().torpor_pidfd_get_descriptor(this.#pidfd.fd, number)),
    );
  }

  /** The pidfd, borrowed: to be given to a pager that should end with this process. */
  get pidfd(): number {
    return this.#pidfd.fd;
  }

  /**
   * Stops watching and lets the process live on. `exited` never resolves after this. A child that ends later stays a zombie until it
   * is adopted again or this process ends.
   */
  async release(): Promise<void> {
    await this.#watch.forget();
    this.#pidfd.close();
  }

  /** Kills the process and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#pidfd.closed) return;
    this.signal(SIGKILL);
    await this.exited;
  }
}

/** What is known of a process from before a restart of the agent. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: bigint;
  /** A part of its command line (arguments joined by spaces), such as the sandbox's id. */
  readonly commandLineIncludes: string;
}

/** Field 22 of /proc/`pid`/stat. `native_enoent` when there is no such process. */
export function processStartTime(pid: number): bigint {
  return BigInt(check("processStartTime", native().torpor_process_start_time(pid)));
}

function commandLine(pid: number): string {
  using file = openFile(`/proc/${pid}/cmdline`, { read: true });
  const bytes = new Uint8Array(1 << 20);
  return new TextDecoder().decode(bytes.subarray(0, preadSync(file.fd, bytes, 0))).replaceAll("\0", " ");
}

function isGone(error: unknown): boolean {
  return error instanceof NativeError && (error.errno === ESRCH || error.errno === ENOENT);
}

/**
 * Finds a process again. The pidfd is opened before start time and command line are compared, so what is returned is the process
 * that was compared. Returns null when it has ended or the number belongs to another process.
 */
export function adoptProcess(identity: ProcessIdentity): Process | null {
  const opened = native().torpor_pidfd_open(identity.pid);
  if (opened === -ESRCH) return null;
  const pidfd = new Descriptor(check("adoptProcess", opened));
  try {
    const same = processStartTime(identity.pid) === identity.startTime &&
      commandLine(identity.pid).includes(identity.commandLineIncludes);
    if (same) return new Process(pidfd, identity.pid, identity.startTime);
  } catch (error) {
    pidfd.close();
    if (isGone(error)) return null;
    throw error;
  }
  pidfd.close();
  return null;
}
