import { scaledTimeoutMs } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import type { DiskCopy } from "../driver.ts";
import type { Qmp } from "./qmp.ts";

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
        "copy-mode": "write-blocking",
      });
      return copy;
    } catch (error) {
      await abandonDiskCopy(qmp);
      throw error;
    }
  }

  static #watch(qmp: Qmp): QemuDiskCopy {
    const isJob = (data: Record<string, unknown>) => data.device === JOB;
    const ended = qmp.event(
      ({ event, data }) => isJob(data) && (event === "BLOCK_JOB_COMPLETED" || event === "BLOCK_JOB_CANCELLED"),
      "the end of the disk copy",
      IN_STEP_TIMEOUT_MS + END_TIMEOUT_MS,
    ).then(({ event, data }) => {
      if (event === "BLOCK_JOB_COMPLETED" && data.error === undefined) return;
      throw failed(String(data.error ?? "cancelled"));
    });
    const ready = qmp.event(
      ({ event, data }) => event === "BLOCK_JOB_READY" && isJob(data),
      "the disk copy",
      IN_STEP_TIMEOUT_MS,
    );
    const inStep = Promise.race([ready, ended]).then(() => {});
    // Whoever gives up early is not interested in them.
    for (const promise of [ended, ready, inStep]) promise.catch(() => {});
    return new QemuDiskCopy(qmp, inStep, ended);
  }

  async finish(): Promise<void> {
    await this.#qmp.execute("block-job-cancel", { device: JOB });
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
  const jobs = await qmp.execute("query-block-jobs") as { device: string }[];
  if (jobs.some(({ device }) => device === JOB)) {
    const ended = qmp.event(
      ({ event, data }) => data.device === JOB && (event === "BLOCK_JOB_COMPLETED" || event === "BLOCK_JOB_CANCELLED"),
      "the end of the disk copy",
      END_TIMEOUT_MS,
    );
    ended.catch(() => {});
    await qmp.execute("block-job-cancel", { device: JOB, force: true });
    await ended;
  }
  const nodes = await qmp.execute("query-named-block-nodes", { flat: true }) as { "node-name": string }[];
  if (nodes.some((node) => node["node-name"] === NODE)) await qmp.execute("blockdev-del", { "node-name": NODE });
  const sets = await qmp.execute("query-fdsets") as { "fdset-id": number }[];
  if (sets.some((set) => set["fdset-id"] === FDSET)) await qmp.execute("remove-fd", { "fdset-id": FDSET });
}

function failed(reason: string): TorporError {
  return new TorporError("internal", "the VMM could not copy the disk", { cause: new Error(reason) });
}
