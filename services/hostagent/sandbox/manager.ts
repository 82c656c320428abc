import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { log } from "@torpor/telemetry";
import type { GuestChannel } from "../guest/channel.ts";
import type { PortConnections } from "../network/ports/port_connections.ts";
import type { FoundSnapshot } from "../snapshot/sweep.ts";
import { removeIfPresent } from "../storage/durable_file.ts";
import type { SandboxAccess } from "./access.ts";
import type { CreateSpec, LifecycleCall, SnapshotRequest } from "./calls.ts";
import { type HostContext, step } from "./context.ts";
import { createSandbox } from "./create_sandbox.ts";
import { createSnapshot, findMade, type MadeSnapshot } from "./create_snapshot.ts";
import { destroySandbox } from "./destroy_sandbox.ts";
import { requireSoundDisk } from "./disk_fault.ts";
import { idleAtMs, IdleTimers } from "./idle_timers.ts";
import { KeyedLocks } from "./keyed_locks.ts";
import { LifecycleRunner, requireNewest } from "./lifecycle_runner.ts";
import { pauseSandbox } from "./pause_sandbox.ts";
import type { ReclaimCaps } from "./reclaim_caps.ts";
import type { NetworkUpdate } from "./recorded_network.ts";
import { resumeSandbox } from "./resume_sandbox.ts";
import type { Sandbox } from "./sandbox.ts";
import { SandboxTable } from "./sandbox_table.ts";
import { spawnSandbox } from "./spawn_sandbox.ts";
import { updateNetwork } from "./update_network.ts";
import { VmCare } from "./vm_care.ts";

/** After an automatic pause that has failed. */
const AUTO_PAUSE_RETRY_MS = 10_000;

/**
 * All sandboxes of this host. Each lifecycle operation is idempotent by its id, fenced by its version and holds its
 * sandbox's lock; once begun it goes on when its caller leaves.
 */
export class SandboxManager implements SandboxAccess, AsyncDisposable {
  readonly #context: HostContext;
  readonly #sandboxes: SandboxTable;
  readonly #locks = new KeyedLocks();
  readonly #idle: IdleTimers;
  readonly #runner: LifecycleRunner;
  readonly #care: VmCare;

  constructor(context: HostContext, recovered: Sandbox[] = [], orphans = new Map<string, FoundSnapshot>()) {
    this.#context = context;
    this.#sandboxes = new SandboxTable(context.layout, context.references, orphans);
    this.#idle = new IdleTimers((sandbox) => this.#pauseIdle(sandbox));
    this.#runner = new LifecycleRunner(context, this.#sandboxes, this.#locks, this.#idle);
    this.#care = new VmCare(context, this.#locks, this.#idle);
    for (const sandbox of recovered) {
      this.#sandboxes.add(sandbox);
      this.#care.takeOver(sandbox);
    }
  }

  /** All sandboxes, in no order. */
  list(): Sandbox[] {
    return this.#sandboxes.list();
  }

  /** @throws TorporError `invalid_argument`, `sandbox_not_found`. */
  get(sandboxId: string): Sandbox {
    return this.#sandboxes.get(sandboxId);
  }

  /**
   * Boots or spawns a new sandbox and waits until its agent answers. A failed one leaves nothing.
   * @throws TorporError `already_exists`, and as `createSandbox` and `spawnSandbox`.
   */
  async create(call: LifecycleCall, spec: CreateSpec): Promise<Sandbox> {
    return await this.#runner.operate("create", call, async (operation) => {
      const existing = this.#sandboxes.find(call.sandboxId);
      if (existing) {
        // The same call, begun before this agent was started.
        if (existing.record.operation?.operation_id === operation.operation_id) return existing;
        throw new TorporError("already_exists", `sandbox ${call.sandboxId} exists on this host`);
      }
      const interrupt = new AbortController();
      const { sandboxId, version } = call;
      const { timeoutSec, env, network, from } = spec;
      const reclaim = spec.reclaim ?? this.#context.reclaim;
      const wanted = { sandboxId, version, timeoutSec, env, reclaim, network, operation };
      const events = {
        began: (sandbox: Sandbox) => {
          sandbox.interrupt = interrupt;
          this.#sandboxes.add(sandbox);
        },
        failed: (sandbox: Sandbox) => void this.#sandboxes.delete(sandbox.id),
        running: (sandbox: Sandbox) => this.#care.watch(sandbox),
      };
      return "snapshotId" in from
        ? await spawnSandbox(this.#context, wanted, from, interrupt.signal, events)
        : await createSandbox(this.#context, wanted, from, interrupt.signal, events);
    });
  }

  /**
   * Saves a running sandbox and frees its VM. A paused one is returned as it is.
   * @param reclaim what the guest does first; absent: what the sandbox was created with.
   * @throws TorporError `sandbox_not_found`, `fenced`, `conflict`, `pause_failed`, `no_space` (it runs on), `vm_gone`.
   */
  async pause(
    call: LifecycleCall,
    kind: "pause" | "auto_pause" = "pause",
    reclaim?: ReclaimCaps,
  ): Promise<Sandbox> {
    return await this.#runner.change(kind, call, async (sandbox, signal) => {
      // Used meanwhile, or paused by somebody else.
      if (kind === "auto_pause" && !this.#runner.closing && !(sandbox.vm && idleAtMs(sandbox) <= performance.now())) {
        return sandbox;
      }
      // Who pauses often resumes soon; a sandbox that was idle, or that stops with its host, is not expected back.
      await pauseSandbox(this.#context, sandbox, { expectResume: kind === "pause", reclaim }, signal);
      sandbox.record.auto_paused = kind === "auto_pause";
      return sandbox;
    });
  }

  /**
   * Brings a paused sandbox back. A running one is returned as it is.
   * @param request.snapshotId the snapshot to resume, or empty for the newest.
   * @throws TorporError `sandbox_not_found`, `fenced`, `conflict`, `snapshot_mismatch`, and as `resumeVm` (it stays paused).
   */
  async resume(
    call: LifecycleCall,
    request: { timeoutSec: number; snapshotId: string; network?: NetworkUpdate },
  ): Promise<{ sandbox: Sandbox; clockBehindMs: number }> {
    return await this.#runner.change("resume", call, async (sandbox, signal) => {
      const clockBehindMs = await resumeSandbox(this.#context, sandbox, request, signal);
      if (clockBehindMs !== undefined) this.#care.watch(sandbox);
      return { sandbox, clockBehindMs: clockBehindMs ?? 0 };
    });
  }

  /**
   * Makes a kept snapshot of a sandbox, which goes on or is destroyed. A repeated call, by operation or by snapshot id,
   * gives the snapshot that there is.
   * @throws TorporError `sandbox_not_found`, `fenced`, and as `createSnapshot`; `pause_failed` and as `pause` when the
   *   sandbox is not kept. Until the snapshot is there, the sandbox is not destroyed.
   */
  async snapshot(call: LifecycleCall, { snapshotId, name, keepSandbox }: SnapshotRequest): Promise<MadeSnapshot> {
    const made = snapshotId === "" ? undefined : findMade(this.#context, call.sandboxId, snapshotId);
    if (made && !this.#sandboxes.find(call.sandboxId)) return made;
    const kind = keepSandbox ? "snapshot" : "snapshot_and_destroy";
    return await this.#runner.change(kind, call, async (sandbox, signal, operation) => {
      operation.snapshot_id ??= snapshotId || newId();
      await sandbox.save(this.#context.layout);
      if (!keepSandbox) await pauseSandbox(this.#context, sandbox, { expectResume: false }, signal);
      const spec = { snapshotId: operation.snapshot_id, name };
      const result = await createSnapshot(this.#context, sandbox, spec, signal);
      if (!keepSandbox) {
        this.#idle.stop(sandbox);
        await step(
          this.#context,
          sandbox.id,
          "snapshot.destroy",
          () => destroySandbox(this.#context, sandbox, operation),
        );
        this.#sandboxes.delete(sandbox.id);
      }
      return result;
    });
  }

  /**
   * Ends a sandbox and removes everything of it. Always succeeds in the end: unknown ids are fine, an operation in flight is
   * interrupted where that is safe, else waited for.
   * @throws TorporError `fenced`, `internal` when files cannot be removed (call again).
   */
  async destroy(call: LifecycleCall): Promise<void> {
    await this.#runner.operate("destroy", call, async (operation) => {
      const sandbox = this.#sandboxes.find(call.sandboxId);
      if (sandbox) {
        requireNewest(sandbox, call.version);
        this.#idle.stop(sandbox);
        await destroySandbox(this.#context, sandbox, operation);
      }
      // What an unreadable record or a lost one has left.
      await this.#sandboxes.removeOrphan(call.sandboxId);
      await removeIfPresent(this.#context.layout.sandbox(call.sandboxId).directory);
      this.#sandboxes.delete(call.sandboxId);
    });
  }

  /**
   * Replaces what a sandbox may reach, once the operation in flight has ended. Of a running one connections that the new
   * policy denies are cut; of others it is in effect when they run again.
   * @returns the revision that is in effect.
   * @throws TorporError `sandbox_not_found`, `fenced`, and as `updateNetwork`.
   */
  async updateNetwork(call: Pick<LifecycleCall, "sandboxId" | "version">, update: NetworkUpdate): Promise<number> {
    using _lock = await this.#locks.acquire(call.sandboxId);
    const sandbox = this.#sandboxes.get(call.sandboxId);
    requireNewest(sandbox, call.version);
    return await step(this.#context, sandbox.id, "network.update", () => updateNetwork(this.#context, sandbox, update));
  }

  /** How an operation stands. @throws TorporError `operation_not_found`. */
  operation(sandboxId: string, operationId: string): { state: string; error?: TorporError; sandbox?: Sandbox } {
    return this.#runner.operation(sandboxId, operationId);
  }

  /** The control plane has recorded these automatic pauses. */
  async acknowledgeAutoPaused(sandboxIds: string[]): Promise<void> {
    for (const sandboxId of sandboxIds) {
      const sandbox = this.#sandboxes.get(sandboxId);
      // A sandbox that is being changed is acknowledged with a later call.
      using lock = sandbox?.record.auto_paused ? this.#locks.tryAcquire(sandboxId) : undefined;
      if (!lock) continue;
      sandbox!.record.auto_paused = false;
      await sandbox!.save(this.#context.layout);
    }
  }

  /** Counts as activity. @throws TorporError `sandbox_not_found`, `conflict`. */
  ping(sandboxId: string): void {
    this.#sandboxes.running(sandboxId).touch();
  }

  async channel(sandboxId: string): Promise<GuestChannel> {
    const sandbox = this.#sandboxes.running(sandboxId);
    requireSoundDisk(sandbox.vm!);
    return await sandbox.vm!.channel();
  }

  async use<T>(sandboxId: string, work: (channel: GuestChannel) => Promise<T>): Promise<T> {
    const sandbox = this.#sandboxes.running(sandboxId);
    requireSoundDisk(sandbox.vm!);
    sandbox.uses++;
    sandbox.touch();
    try {
      return await work(await sandbox.vm!.channel());
    } finally {
      sandbox.uses--;
      sandbox.touch();
    }
  }

  ports(sandboxId: string): PortConnections {
    return this.#sandboxes.running(sandboxId).vm!.ports;
  }

  env(sandboxId: string): Record<string, string> {
    return this.get(sandboxId).record.env;
  }

  /**
   * Stops for good: refuses new operations, waits for those in flight and pauses what runs, so that nothing is lost. A
   * sandbox whose pause fails is left running for the next agent to adopt.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#runner.close();
    await Promise.all(this.list().filter(({ vm }) => vm).map((sandbox) => this.#pauseForShutdown(sandbox)));
    await this.#care.idle();
  }

  /** Destroys all sandboxes. */
  async destroyAll(): Promise<void> {
    await Promise.all(
      [...this.#sandboxes.ids()].map((sandboxId) => this.destroy({ sandboxId, operationId: "", version: 0 })),
    );
  }

  async #pauseIdle(sandbox: Sandbox): Promise<void> {
    if (this.#runner.closing || sandbox.status !== "running") return;
    try {
      await this.pause({ sandboxId: sandbox.id, operationId: "", version: 0 }, "auto_pause");
      log("info", "sandbox_auto_paused", { sandbox_id: sandbox.id });
    } catch (error) {
      // It runs on, and is as idle as before: not again at once.
      log("error", "auto_pause_failed", { sandbox_id: sandbox.id }, error);
      if (!this.#runner.closing) this.#idle.start(sandbox, AUTO_PAUSE_RETRY_MS);
    }
  }

  async #pauseForShutdown(sandbox: Sandbox): Promise<void> {
    try {
      await this.pause({ sandboxId: sandbox.id, operationId: "", version: 0 }, "auto_pause");
    } catch (error) {
      log("error", "sandbox_left_running", { sandbox_id: sandbox.id }, error);
      await sandbox.vm?.release();
    }
  }
}
