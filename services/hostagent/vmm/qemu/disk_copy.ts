import { scaledTimeoutMs } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import type { DiskCopy } from "../driver.ts";
import type { Qmp, QmpEvent } from "./qmp.ts";

/** Names inside QEMU. There is at most one copy per VM at a time. */
const JOB = "disk-copy";
const NODE = "disk-copy";
const FDSET = 1;
/** The device's node (see command_line.ts). */
const DISK_NODE = "disk";
/** Ending a copy that is in step takes milliseconds; this is for a host whose disk hangs. */
const END_TIMEOUT_MS = scaledTimeoutMs(60_000);
/** A copy of a large disk on a slow host. */
const IN_STEP_TIMEOUT_MS = scaledTimeoutMs(30 * 60_000);

/**
 * Copies the disk by a mirror job in `write-blocking` mode: what the guest writes goes to both, so the copy catches up
 * however fast the guest writes, and nothing is left to copy when the vCPUs stop. It is not flushed by QEMU: that could
 * take long, and the vCPUs would stand still meanwhile.
 */
export class QemuDiskCopy implements DiskCopy {
  readonly inStep: Promise<void>;
  readonly #qmp: Qmp;
  readonly #ended: Promise<unknown>;
  #finished = false;

  private constructor(qmp: Qmp, inStep: Promise<void>, ended: Promise<unknown>) {
    this.#qmp = qmp;
    this.inStep = inStep;
    this.#ended = ended;
  }

  /** @param fd an empty file of the disk's size, open for reading and writing; the caller keeps it. */
  static async start(qmp: Qmp, fd: number): Promise<QemuDiskCopy> {
    // What an earlier agent may have left.
    await abandonDiskCopy(qmp);
    await qmp.execute("add-fd", { "fdset-id": FDSET }, { descriptor: fd });
    try {
      await qmp.execute("blockdev-add", {
        driver: "raw",
        "node-name": NODE,
        discard: "unmap",
        "detect-zeroes": "unmap",
        cache: { "no-flush": true },
        file: { driver: "file", filename: `/dev/fdset/${FDSET}`, discard: "unmap" },
      });
      const copy = QemuDiskCopy.#watch(qmp);
      await qmp.execute("blockdev-mirror", {
        "job-id": JOB,
        device: DISK_NODE,
        target: NODE,
        sync: "full",
        // No other error of the target stops the job: that it has stopped says why.
        "on-target-error": "enospc",
        "copy-mode": "write-blocking",
      });
      return copy;
    } catch (error) {
      await abandonDiskCopy(qmp);
      throw error;
    }
  }

  static #watch(qmp: Qmp): QemuDiskCopy {
    const ended = qmp.event(isEnd, "the end of the disk copy", IN_STEP_TIMEOUT_MS + END_TIMEOUT_MS).then(
      requireSuccess,
    );
    const isReady = ({ event, data }: QmpEvent) => event === "BLOCK_JOB_READY" && data.device === JOB;
    const inStep = qmp.event((event) => isReady(event) || isEnd(event), "the disk copy", IN_STEP_TIMEOUT_MS)
      .then((event) => isReady(event) ? undefined : ended);
    // Whoever gives up early is not interested in them.
    for (const promise of [ended, inStep]) promise.catch(() => {});
    return new QemuDiskCopy(qmp, inStep, ended);
  }

  async finish(): Promise<void> {
    const cancelled = this.#qmp.execute("block-job-cancel", { device: JOB });
    cancelled.catch(() => {});
    // A job that has stopped refuses; why it has is the better answer.
    await Promise.race([this.#ended, cancelled]);
    await this.#ended;
    this.#finished = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#finished) return await abandonDiskCopy(this.#qmp);
    await this.#qmp.execute("blockdev-del", { "node-name": NODE });
    await this.#qmp.execute("remove-fd", { "fdset-id": FDSET });
  }
}

/** Ends a copy, however far it is, and removes what it had in QEMU. None is fine. */
export async function abandonDiskCopy(qmp: Qmp): Promise<void> {
  const jobs = await qmp.execute("query-block-jobs") as { device: string; "io-status": string }[];
  const job = jobs.find(({ device }) => device === JOB);
  if (job) {
    const goesOn = job["io-status"] === "nospace" && await stopQuietly(qmp);
    const ended = qmp.event(
      ({ event, data }) => data.device === JOB && (event === "BLOCK_JOB_COMPLETED" || event === "BLOCK_JOB_CANCELLED"),
      "the end of the disk copy",
      END_TIMEOUT_MS,
    );
    ended.catch(() => {});
    await qmp.execute("block-job-cancel", { device: JOB, force: true });
    await ended;
    if (goesOn) await qmp.execute("cont");
  }
  const nodes = await qmp.execute("query-named-block-nodes", { flat: true }) as { "node-name": string }[];
  if (nodes.some((node) => node["node-name"] === NODE)) await qmp.execute("blockdev-del", { "node-name": NODE });
  const sets = await qmp.execute("query-fdsets") as { "fdset-id": number }[];
  if (sets.some((set) => set["fdset-id"] === FDSET)) await qmp.execute("remove-fd", { "fdset-id": FDSET });
}

/**
 * Stops the guest, if it runs. Where the copy finds the disk full, a write of the guest may find the same, at which QEMU
 * stops by itself: a job that ends while it does so leaves its filter in the graph for good (bdrv_flush_all drops a
 * reference to another node than it took), and no further copy can begin.
 */
async function stopQuietly(qmp: Qmp): Promise<boolean> {
  const { running } = await qmp.execute("query-status") as { running: boolean };
  await qmp.execute("stop");
  // One command may run inside a stop that is under way, a second one cannot.
  await qmp.execute("query-status");
  return running;
}

function isEnd({ event, data }: QmpEvent): boolean {
  if (data.device !== JOB) return false;
  return event === "BLOCK_JOB_COMPLETED" || event === "BLOCK_JOB_CANCELLED" || isFull({ event, data });
}

/** The job has stopped at a full disk and waits for room. */
function isFull({ event, data }: QmpEvent): boolean {
  return event === "BLOCK_JOB_ERROR" && data.action === "stop";
}

function requireSuccess(end: QmpEvent): void {
  if (isFull(end)) {
    throw new TorporError("no_space", "the host's disk is full: the sandbox's disk could not be copied", {
      hint: "a checkpoint needs as much space as the sandbox's disk has data; delete snapshots, or use a larger disk",
    });
  }
  if (end.event === "BLOCK_JOB_COMPLETED" && end.data.error === undefined) return;
  throw failed(String(end.data.error ?? "cancelled"));
}

function failed(reason: string): TorporError {
  return new TorporError("internal", "the VMM could not copy the disk", { cause: new Error(reason) });
}
