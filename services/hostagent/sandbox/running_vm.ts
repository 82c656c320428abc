import { scaledTimeoutMs } from "@torpor/config";
import type { ErrorCode, TorporError } from "@torpor/errors";
import type { ExtentTable, Manifest } from "@torpor/snapshot";
import type { Jail } from "../confinement/mod.ts";
import type { GuestChannel } from "../guest/channel.ts";
import { PortConnections } from "../network/ports/port_connections.ts";
import { openAndWake, openGuestChannel } from "../guest/open_channel.ts";
import type { WakeCall, WakeResult } from "../guest/wake.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import { countPager } from "../memory/pager_metrics.ts";
import type { VmPager } from "../memory/vm_pager.ts";
import type { VmTracking } from "../memory/tracking/method.ts";
import { WriteMarks } from "../memory/tracking/write_marks.ts";
import type { VmNetwork } from "../network/vm_network.ts";
import { type Vmm, VMM_MEMORY_FD } from "../vmm/driver.ts";
import type { VmRecord } from "./record.ts";

/** A running guest's agent answers in milliseconds; after a crash its init starts it again. */
const REOPEN_TIMEOUT_MS = scaledTimeoutMs(10_000);

/** The snapshot that a VM was resumed from: its next snapshot is stored as the difference to it. */
export interface ParentSnapshot {
  manifest: Manifest;
  table: ExtentTable;
}

/** The parts of a VM that runs. */
export interface VmParts {
  vmm: Vmm;
  memory: GuestMemory;
  /** Absent for a VM that was booted. */
  pager?: VmPager;
  network: VmNetwork;
  /** What VMM and pager run in. */
  jail?: Jail;
  parent?: ParentSnapshot;
  tracking: VmTracking;
  /** The kernel's marks name all that was written since `parent`; default true. */
  marksComplete?: boolean;
  accelerator: "kvm" | "tcg";
  agentSocket: string;
}

/** A VM with everything that lives and dies with it. Disposing it kills the VM and frees its memory. */
export class RunningVm implements AsyncDisposable {
  readonly vmm: Vmm;
  readonly memory: GuestMemory;
  readonly jail: Jail | undefined;
  readonly network: VmNetwork;
  /** Another one takes its place when it is killed. */
  pager: VmPager | undefined;
  /** A checkpoint becomes the parent of what comes after it. */
  parent: ParentSnapshot | undefined;
  /** How this VMM's writes are found. */
  readonly tracking: VmTracking;
  readonly marks: WriteMarks;
  readonly accelerator: "kvm" | "tcg";
  readonly ports = new PortConnections();
  /** When its vCPUs were started, wall clock. */
  startedAtMs = Date.now();
  /** What was fetched ahead at its resume, as far as this agent knows. */
  fetchedAhead: Uint32Array | undefined;
  /** Set before the VM is killed for a reason that its exit would not tell. */
  killedFor: ErrorCode | undefined;
  readonly #agentSocket: string;
  /** The process has ended, expected or not. */
  ended = false;
  readonly #letGo = Promise.withResolvers<void>();
  #disposing = false;
  #channel: Promise<GuestChannel> | undefined;

  /** Takes over the parts. */
  constructor(parts: VmParts) {
    this.vmm = parts.vmm;
    this.memory = parts.memory;
    this.jail = parts.jail;
    this.network = parts.network;
    this.pager = parts.pager;
    this.parent = parts.parent;
    this.tracking = parts.tracking;
    this.marks = new WriteMarks(parts.marksComplete ?? true);
    this.accelerator = parts.accelerator;
    this.#agentSocket = parts.agentSocket;
    this.vmm.process.exited.then(() => this.ended = true);
  }

  /** It is being disposed or released: the end of its processes is expected, or no longer this agent's concern. */
  get disposing(): boolean {
    return this.#disposing;
  }

  /** Resolves when it is disposed or released. */
  get letGo(): Promise<void> {
    return this.#letGo.promise;
  }

  /** For `sandbox.json`: how a restarted agent finds this VM again. */
  get record(): VmRecord {
    const { pid, startTime } = this.vmm.process;
    return {
      vmm: { pid, start_time: String(startTime) },
      command_line_mark: this.vmm.commandLineMark,
      accelerator: this.accelerator,
      memory_fd: VMM_MEMORY_FD,
      pager: this.pager?.record ?? null,
      jail: this.jail?.record ?? null,
      network: this.network.record,
      parent_id: this.parent?.manifest.snapshot_id ?? null,
      tracking: this.tracking,
      marks_complete: this.marks.completeInKernel,
    };
  }

  /**
   * The channel to the guest's agent: opened by the first caller, opened again when it has broken.
   * @param signal ends the wait for the guest's first answer.
   * @throws TorporError `guest_unreachable`, `guest_protocol`; the signal's reason.
   */
  async channel(signal: AbortSignal = AbortSignal.timeout(REOPEN_TIMEOUT_MS)): Promise<GuestChannel> {
    const opening = this.#channel ??= this.#open(signal);
    return await opening;
  }

  /**
   * Wakes the guest; without a channel, one is opened with the same message.
   * @param signal ends the wait for the guest's answer.
   * @throws TorporError `guest_unreachable`, `guest_protocol`, `internal` (the guest could not do it); the signal's reason.
   */
  async wake(call: WakeCall, signal: AbortSignal): Promise<WakeResult> {
    if (this.#channel) return await (await this.#channel).wake(call, { signal });
    const opening = openAndWake({ socketPath: this.#agentSocket, signal }, call);
    this.#channel = this.#keep(opening.then(({ channel }) => channel));
    this.#channel.catch(() => {}); // This call has the error.
    return (await opening).woken;
  }

  #open(signal: AbortSignal): Promise<GuestChannel> {
    return this.#keep(openGuestChannel({ socketPath: this.#agentSocket, signal }));
  }

  /** Forgets the channel when it breaks or does not come about. */
  async #keep(opening: Promise<GuestChannel>): Promise<GuestChannel> {
    const forget = () => this.#channel = undefined;
    try {
      const channel = await opening;
      channel.closed.then(forget);
      return channel;
    } catch (error) {
      forget();
      throw error;
    }
  }

  /** Ends the channel: its open streams fail with `reason`, else with `guest_unreachable`. */
  async closeChannel(reason?: TorporError): Promise<void> {
    const opening = this.#channel;
    this.#channel = undefined;
    const channel = await opening?.catch(() => undefined);
    await (reason ? channel?.close(reason) : channel?.[Symbol.asyncDispose]());
  }

  /** Lets go of VM and pager: they run on, for the next agent to adopt. */
  async release(): Promise<void> {
    this.#disposing = true;
    this.#letGo.resolve();
    await this.closeChannel();
    await this.vmm.release();
    await this.pager?.release();
    await this.jail?.release();
    this.memory[Symbol.dispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposing = true;
    this.#letGo.resolve();
    // First the VM, so that a channel that waits for the guest ends at once; the pager last, so that no fault waits.
    await this.vmm[Symbol.asyncDispose]();
    await this.closeChannel();
    countPager(this, "life");
    await this.pager?.[Symbol.asyncDispose]();
    await this.network[Symbol.asyncDispose]();
    this.memory[Symbol.dispose]();
    await this.jail?.[Symbol.asyncDispose]();
  }
}
