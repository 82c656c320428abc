import { scaledTimeoutMs } from "@torpor/config";
import type { Process } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import { delay } from "../../host/delay.ts";
import type { SandboxPaths } from "../../storage/layout.ts";
import type { DiskCopy, DiskFault, Vmm } from "../driver.ts";
import { NETWORK_BACKEND } from "./command_line.ts";
import { ConsoleLog } from "./console.ts";
import { QemuDiskCopy } from "./disk_copy.ts";
import { QemuDiskFaults } from "./disk_faults.ts";
import { Qmp } from "./qmp.ts";

/** Device states have 55 to 400 KB; this is for a host that swaps. */
const MIGRATION_TIMEOUT_MS = scaledTimeoutMs(60_000);
const RUN_STATE_POLL_MS = 1;
const SETTLED = new Set(["completed", "failed", "cancelled"]);
/** QEMU's name for the descriptor of a device state. */
const STATE_FD_NAME = "device-state";

/** A running QEMU process with its monitor and its console. */
export class QemuVmm implements Vmm {
  readonly process: Process;
  readonly commandLineMark: string;
  readonly #qmp: Qmp;
  readonly #console: ConsoleLog;
  readonly #connections: AsyncDisposableStack;
  readonly #diskFaults: QemuDiskFaults;
  #prepared: Promise<void> | undefined;

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
    this.#diskFaults = new QemuDiskFaults(qmp);
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

  get diskFault(): DiskFault | undefined {
    return this.#diskFaults.current;
  }

  onDiskFault(listener: (fault: DiskFault | undefined) => void): Disposable {
    return this.#diskFaults.onChange(listener);
  }

  /** Asks for what was said before it was connected to. @throws TorporError `vm_gone`, `deadline_exceeded`. */
  async findDiskFault(): Promise<void> {
    await this.#diskFaults.find();
  }

  async setLink(up: boolean): Promise<void> {
    await this.#qmp.execute("set_link", { name: NETWORK_BACKEND, up });
  }

  async prepareDeviceState(): Promise<void> {
    await this.#prepareMigration();
  }

  async saveDeviceState(fd: number): Promise<void> {
    await this.#prepareMigration();
    await this.#qmp.execute("getfd", { fdname: STATE_FD_NAME }, { descriptor: fd });
    await this.#migrate("migrate", (reason) => {
      throw new TorporError("internal", "the VMM could not save its device state", { cause: new Error(reason) });
    });
    await this.#afterMigration();
  }

  async loadDeviceState(fd: number): Promise<void> {
    await this.#prepareMigration();
    await this.#qmp.execute("getfd", { fdname: STATE_FD_NAME }, { descriptor: fd });
    await this.#migrate("migrate-incoming", () => {
      throw new TorporError("resume_failed", "the VMM refused the device state");
    });
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

  /**
   * The migration is told to be complete a moment before QEMU's run state is: a `cont` in between would be followed by a
   * change of state that QEMU does not know and aborts at.
   */
  async #afterMigration(): Promise<void> {
    const deadline = performance.now() + MIGRATION_TIMEOUT_MS;
    while (performance.now() < deadline) {
      const { status } = await this.#qmp.execute("query-status") as { status: string };
      if (status === "postmigrate") return;
      await delay(RUN_STATE_POLL_MS);
    }
    throw new TorporError("deadline_exceeded", "the VMM did not finish saving its device state");
  }

  /** Once per connection. */
  #prepareMigration(): Promise<void> {
    return this.#prepared ??= this.#setMigration().catch((error) => {
      this.#prepared = undefined;
      throw error;
    });
  }

  async #setMigration(): Promise<void> {
    const capabilities = ["x-ignore-shared", "events"].map((capability) => ({ capability, state: true }));
    await this.#qmp.execute("migrate-set-capabilities", { capabilities });
    // The default limit of 128 MiB/s would cut the transfer into 100 ms slices.
    await this.#qmp.execute("migrate-set-parameters", { "max-bandwidth": 2 ** 40 });
  }

  /** Runs a migration over the descriptor that was sent, to its end. */
  async #migrate(command: "migrate" | "migrate-incoming", failed: (reason: string) => never): Promise<void> {
    const settled = this.#qmp.event(
      ({ event, data }) => event === "MIGRATION" && SETTLED.has(String(data.status)),
      "the end of the migration",
      MIGRATION_TIMEOUT_MS,
    );
    // The command below may fail first; the listener's own end is then of no interest.
    settled.catch(() => {});
    await this.#qmp.execute(command, { uri: `fd:${STATE_FD_NAME}` });
    const { data } = await settled;
    if (data.status === "completed") return;
    failed(await this.#migrationFault() ?? String(data.status));
  }

  /** Undefined when it does not say: a VMM that has refused a device state ends at once. */
  async #migrationFault(): Promise<string | undefined> {
    try {
      return (await this.#qmp.execute("query-migrate") as Record<string, string>)["error-desc"];
    } catch (error) {
      if (error instanceof TorporError && error.code === "vm_gone") return undefined;
      throw error;
    }
  }
}
