import { log } from "@torpor/telemetry";
import { type SpareHost, SpareVm, type VmShape } from "./spare_vm.ts";

/** A waiting VMM takes about 25 MB; after this time nobody seems to come for it. */
const EXPIRE_MS = 300_000;

interface Waiting {
  shape: VmShape;
  starting: Promise<SpareVm | undefined>;
  interrupt: AbortController;
  expiry: ReturnType<typeof setTimeout>;
}

/**
 * At most one VMM that has started before it is needed. Starting one takes longer than everything else that the host does
 * at a resume (30 ms of CPU, and reads of a program that may not be cached), and does not depend on the sandbox, only on its
 * shape. Who has paused a sandbox often resumes one of the same shape next.
 */
export class SparePool implements AsyncDisposable {
  readonly #host: SpareHost;
  #waiting: Waiting | undefined;
  #ended = false;
  readonly #background = new Set<Promise<void>>();

  constructor(host: SpareHost) {
    this.#host = host;
  }

  /** Starts a VMM of this shape, unless one waits; one of another shape is ended. Returns at once and never throws. */
  prepare(shape: VmShape): void {
    if (this.#ended || (this.#waiting && sameShape(this.#waiting.shape, shape))) return;
    this.#drop();
    const interrupt = new AbortController();
    const starting = this.#start(shape, interrupt.signal);
    const expiry = setTimeout(() => this.#drop(), EXPIRE_MS);
    this.#waiting = { shape, starting, interrupt, expiry };
  }

  /** The waiting VMM if it has this shape: the caller's from now on. One that is just starting is waited for. */
  async take(shape: VmShape): Promise<SpareVm | undefined> {
    const waiting = this.#waiting;
    if (!waiting || !sameShape(waiting.shape, shape)) return undefined;
    this.#waiting = undefined;
    clearTimeout(waiting.expiry);
    const spare = await waiting.starting;
    if (!spare || await isWaiting(spare)) return spare;
    await spare[Symbol.asyncDispose]();
    return undefined;
  }

  /** Ends the waiting VMM. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#drop();
    await Promise.all(this.#background);
  }

  async #start(shape: VmShape, signal: AbortSignal): Promise<SpareVm | undefined> {
    try {
      return await SpareVm.start(this.#host, shape, signal);
    } catch (error) {
      // The resume that would have taken it starts its own, and says what is wrong.
      if (!signal.aborted) log("warn", "spare_vmm_failed", {}, error);
      return undefined;
    }
  }

  #drop(): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    this.#waiting = undefined;
    clearTimeout(waiting.expiry);
    waiting.interrupt.abort();
    const ending = waiting.starting.then((spare) => spare?.[Symbol.asyncDispose]());
    this.#background.add(ending);
    ending.finally(() => this.#background.delete(ending));
  }
}

/** Asks the VMM itself: that its process has ended would be told a moment later. */
async function isWaiting(spare: SpareVm): Promise<boolean> {
  try {
    return !await spare.vmm.isRunning();
  } catch (error) {
    log("warn", "spare_vmm_gone", {}, error);
    return false;
  }
}

function sameShape(a: VmShape, b: VmShape): boolean {
  return a.vcpus === b.vcpus && a.memoryMb === b.memoryMb && a.diskBytes === b.diskBytes && a.baseImage === b.baseImage;
}
