import { scaledTimeoutMs } from "@torpor/config";
import type { Process } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import { delay } from "../../host/delay.ts";
import type { SandboxPaths } from "../../storage/layout.ts";
import type { DiskCopy, Vmm } from "../driver.ts";
import { ConsoleLog } from "./console.ts";
import { QemuDiskCopy } from "./disk_copy.ts";
import { Qmp } from "./qmp.ts";

/** Device states have 55 to 400 KB; this is for a host that swaps. */
const MIGRATION_TIMEOUT_MS = scaledTimeoutMs(60_000);
const MIGRATION_POLL_MS = 1;
/** QEMU's name for the descriptor of a device state. */
const STATE_FD_NAME = "device-state";

/** A running QEMU process with its monitor and its console. */
export class QemuVmm implements Vmm {
  readonly process: Process;
  readonly commandLineMark: string;
  readonly #qmp: Qmp;
  readonly #console: ConsoleLog;
  readonly #connections: AsyncDisposableStack;

  private constructor(
    process: Process,
    commandLineMark: string,
    qmp: Qmp,
    console: ConsoleLog,
    connections: AsyncDisposableStack,
  ) {
    this.process = process;
    this.commandLineMark = commandLineMark;
    this.#qmp = qmp;
    this.#console = console;
    this.#connections = connections;
  }

  /**
   * Connects to a QEMU that was started, now or by an earlier agent. On failure the process is killed.
   * @throws TorporError `vm_gone` when it ends first, `deadline_exceeded`; the signal's reason.
   */
  static async connect(
    process: Process,
    paths: SandboxPaths,
    commandLineMark: string,
    signal: AbortSignal,
  ): Promise<QemuVmm> {
    const ended = new AbortController();
    process.exited.then(() => ended.abort(new TorporError("vm_gone", "the VMM ended before it answered")));
    await using connections = new AsyncDisposableStack();
    try {
      const qmp = connections.use(await Qmp.connect(paths.qmpSocket, AbortSignal.any([signal, ended.signal])));
      const console = connections.use(await ConsoleLog.open(paths.consoleSocket, paths.consoleLog));
      return new QemuVmm(process, commandLineMark, qmp, console, connections.move());
    } catch (error) {
      await process[Symbol.asyncDispose]();
      throw error;
    }
  }

  async startVcpus(): Promise<void> {
    await this.#qmp.execute("cont");
  }

  async stopVcpus(): Promise<void> {
    await this.#qmp.execute("stop");
  }

  async isRunning(): Promise<boolean> {
    const status = await this.#qmp.execute("query-status") as { running: boolean };
    return status.running;
  }

  async saveDeviceState(fd: number): Promise<void> {
    await this.#prepareMigration([{ capability: "x-ignore-shared", state: true }]);
    // The default limit of 128 MiB/s would cut the transfer into 100 ms slices.
    await this.#qmp.execute("migrate-set-parameters", { "max-bandwidth": 2 ** 40 });
    await this.#qmp.execute("getfd", { fdname: STATE_FD_NAME }, { descriptor: fd });
    await this.#qmp.execute("migrate", { uri: `fd:${STATE_FD_NAME}` });
    await this.#migrationEnd();
  }

  async loadDeviceState(fd: number): Promise<void> {
    await this.#prepareMigration([
      { capability: "x-ignore-shared", state: true },
      { capability: "events", state: true },
    ]);
    const settled = this.#qmp.event(
      ({ event, data }) => event === "MIGRATION" && (data.status === "completed" || data.status === "failed"),
      "the end of the restore",
      MIGRATION_TIMEOUT_MS,
    );
    // The commands below may fail first; the listener's own end is then of no interest.
    settled.catch(() => {});
    await this.#qmp.execute("getfd", { fdname: STATE_FD_NAME }, { descriptor: fd });
    await this.#qmp.execute("migrate-incoming", { uri: `fd:${STATE_FD_NAME}` });
    const { data } = await settled;
    if (data.status === "failed") throw new TorporError("resume_failed", "the VMM refused the device state");
  }

  async copyDisk(fd: number): Promise<DiskCopy> {
    return await QemuDiskCopy.start(this.#qmp, fd);
  }

  async release(): Promise<void> {
    await this.#connections.disposeAsync();
    await this.process.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
    await this.#console.drained;
    await this.#connections.disposeAsync();
  }

  async #prepareMigration(capabilities: { capability: string; state: boolean }[]): Promise<void> {
    await this.#qmp.execute("migrate-set-capabilities", { capabilities });
  }

  async #migrationEnd(): Promise<void> {
    const deadline = Date.now() + MIGRATION_TIMEOUT_MS;
    while (Date.now() < deadline) {
      const { status, "error-desc": reason } = await this.#qmp.execute("query-migrate") as Record<string, string>;
      if (status === "completed") return;
      if (status === "failed" || status === "cancelled") {
        throw new TorporError("internal", "the VMM could not save its device state", { cause: new Error(reason) });
      }
      await delay(MIGRATION_POLL_MS);
    }
    throw new TorporError("deadline_exceeded", "the VMM did not finish saving its device state");
  }
}
