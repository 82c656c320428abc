import { asTorporError, TorporError } from "@torpor/errors";
import { newId, requireId } from "@torpor/ids";
import { log, withSpan } from "@torpor/telemetry";
import type { GuestChannel } from "../guest/channel.ts";
import { releaseSnapshots } from "../snapshot/release.ts";
import type { FoundSnapshot } from "../snapshot/sweep.ts";
import { removeIfPresent } from "../storage/durable_file.ts";
import type { SandboxAccess } from "./access.ts";
import { type HostContext, step } from "./context.ts";
import type { CreateSpec, LifecycleCall, SnapshotRequest } from "./calls.ts";
import { createSandbox } from "./create_sandbox.ts";
import { createSnapshot, findMade, type MadeSnapshot } from "./create_snapshot.ts";
import { destroySandbox } from "./destroy_sandbox.ts";
import { thawGuest } from "./guest_hooks.ts";
import { idleAtMs, IdleTimers } from "./idle_timers.ts";
import { KeyedLocks } from "./keyed_locks.ts";
import { Operations, recordedError } from "./operations.ts";
import { pauseSandbox } from "./pause_sandbox.ts";
import type { OperationKind, OperationRecord } from "./record.ts";
import type { ReclaimCaps } from "./reclaim_caps.ts";
import { resumeSandbox } from "./resume_sandbox.ts";
import type { Sandbox } from "./sandbox.ts";
import { settleLostVm } from "./settle_lost_vm.ts";
import { spawnSandbox } from "./spawn_sandbox.ts";
import { succeedPager } from "./succeed_pager.ts";
import type { RunningVm } from "./running_vm.ts";
import { type PagerCare, watchVm } from "./vm_watch.ts";

/** Work under the sandbox's lock; the signal asks it to stop where that is safe. */
type Work<T> = (sandbox: Sandbox, signal: AbortSignal, operation: OperationRecord) => Promise<T>;

/**
 * All sandboxes of this host. Each lifecycle operation is idempotent by its id, fenced by its version and holds its
 * sandbox's lock; once begun it goes on when its caller leaves.
 */
export class SandboxManager implements SandboxAccess, AsyncDisposable {
  readonly #context: HostContext;
  readonly #sandboxes = new Map<string, Sandbox>();
  /** Snapshots without a sandbox record; only destroy removes them. */
  readonly #orphans: Map<string, FoundSnapshot>;
  readonly #locks = new KeyedLocks();
  readonly #operations = new Operations();
  readonly #idle: IdleTimers;
  readonly #background = new Set<Promise<void>>();
  #closing = false;

  constructor(context: HostContext, recovered: Sandbox[] = [], orphans = new Map<string, FoundSnapshot>()) {
    this.#context = context;
    this.#orphans = orphans;
    context.references.watch(() => this.list().flatMap(({ snapshots }) => snapshots));
    context.references.watch(() => orphans.values());
    context.references.watchUse(() => this.list().flatMap(({ snapshotsInUse }) => snapshotsInUse));
    this.#idle = new IdleTimers((sandbox) => this.#pauseIdle(sandbox));
    for (const sandbox of recovered) {
      this.#sandboxes.set(sandbox.id, sandbox);
      this.#watch(sandbox);
      // The earlier agent may have died between freezing the guest and stopping its vCPUs.
      if (sandbox.vm) this.#inBackground(thawGuest(context, sandbox.id, sandbox.vm));
    }
  }

  /** All sandboxes, in no order. */
  list(): Sandbox[] {
    return [...this.#sandboxes.values()];
  }

  /** @throws TorporError `invalid_argument`, `sandbox_not_found`. */
  get(sandboxId: string): Sandbox {
    const sandbox = this.#sandboxes.get(requireId(sandboxId, "sandbox_id"));
    if (!sandbox) throw new TorporError("sandbox_not_found", `no sandbox ${sandboxId} on this host`);
    return sandbox;
  }

  /**
   * Boots or spawns a new sandbox and waits until its agent answers. A failed one leaves nothing.
   * @throws TorporError `already_exists`, and as `createSandbox` and `spawnSandbox`.
   */
  async create(call: LifecycleCall, spec: CreateSpec): Promise<Sandbox> {
    return await this.#operate("create", call, async (operation) => {
      const existing = this.#sandboxes.get(call.sandboxId);
      if (existing) {
        // The same call, begun before this agent was started.
        if (existing.record.operation?.operation_id === operation.operation_id) return existing;
        throw new TorporError("already_exists", `sandbox ${call.sandboxId} exists on this host`);
      }
      const interrupt = new AbortController();
      const { sandboxId, version } = call;
      const { timeoutSec, env, from } = spec;
      const reclaim = spec.reclaim ?? this.#context.reclaim;
      const wanted = { sandboxId, version, timeoutSec, env, reclaim, operation };
      const events = {
        began: (sandbox: Sandbox) => {
          sandbox.interrupt = interrupt;
          this.#sandboxes.set(sandbox.id, sandbox);
        },
        failed: (sandbox: Sandbox) => void this.#sandboxes.delete(sandbox.id),
        running: (sandbox: Sandbox) => this.#watch(sandbox),
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
    return await this.#change(kind, call, async (sandbox, signal) => {
      // Used meanwhile, or paused by somebody else.
      if (kind === "auto_pause" && !this.#closing && !(sandbox.vm && idleAtMs(sandbox) <= Date.now())) return sandbox;
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
    request: { timeoutSec: number; snapshotId: string },
  ): Promise<{ sandbox: Sandbox; clockBehindMs: number }> {
    return await this.#change("resume", call, async (sandbox, signal) => {
      const clockBehindMs = await resumeSandbox(this.#context, sandbox, request, signal);
      if (clockBehindMs !== undefined) this.#watch(sandbox);
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
    if (made && !this.#sandboxes.has(call.sandboxId)) return made;
    const kind = keepSandbox ? "snapshot" : "snapshot_and_destroy";
    return await this.#change(kind, call, async (sandbox, signal, operation) => {
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
    await this.#operate("destroy", call, async (operation) => {
      const sandbox = this.#sandboxes.get(call.sandboxId);
      if (sandbox) {
        requireNewest(sandbox, call.version);
        this.#idle.stop(sandbox);
        await destroySandbox(this.#context, sandbox, operation);
      }
      // What an unreadable record or a lost one has left.
      await this.#removeOrphan(call.sandboxId);
      await removeIfPresent(this.#context.layout.sandbox(call.sandboxId).directory);
      this.#sandboxes.delete(call.sandboxId);
    });
  }

  /** How an operation stands. @throws TorporError `operation_not_found`. */
  operation(sandboxId: string, operationId: string): { state: string; error?: TorporError; sandbox?: Sandbox } {
    const sandbox = this.#sandboxes.get(requireId(sandboxId, "sandbox_id"));
    const status = this.#operations.status(requireId(operationId, "operation_id"));
    if (status && status.sandboxId === sandboxId) return { state: status.state, error: status.error, sandbox };
    const last = sandbox?.record.operation;
    if (last?.operation_id !== operationId) {
      throw new TorporError("operation_not_found", "this host has never begun that operation, or has forgotten it");
    }
    return { state: last.state, error: last.state === "failed" ? recordedError(last) : undefined, sandbox };
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
    this.#running(sandboxId).touch();
  }

  async channel(sandboxId: string): Promise<GuestChannel> {
    const sandbox = this.#running(sandboxId);
    return await sandbox.vm!.channel();
  }

  async use<T>(sandboxId: string, work: (channel: GuestChannel) => Promise<T>): Promise<T> {
    const sandbox = this.#running(sandboxId);
    sandbox.uses++;
    sandbox.touch();
    try {
      return await work(await sandbox.vm!.channel());
    } finally {
      sandbox.uses--;
      sandbox.touch();
    }
  }

  env(sandboxId: string): Record<string, string> {
    return this.get(sandboxId).record.env;
  }

  /**
   * Stops for good: refuses new operations, waits for those in flight and pauses what runs, so that nothing is lost. A
   * sandbox whose pause fails is left running for the next agent to adopt.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    this.#idle.stopAll();
    await this.#operations.idle();
    await Promise.all(this.list().filter(({ vm }) => vm).map((sandbox) => this.#pauseForShutdown(sandbox)));
    await Promise.all(this.#background);
  }

  /** Destroys all sandboxes. */
  async destroyAll(): Promise<void> {
    const ids = new Set([...this.#sandboxes.keys(), ...this.#orphans.keys()]);
    await Promise.all([...ids].map((sandboxId) => this.destroy({ sandboxId, operationId: "", version: 0 })));
  }

  /** @throws TorporError `sandbox_not_found`, `conflict` when it is not running. */
  #running(sandboxId: string): Sandbox {
    const sandbox = this.get(sandboxId);
    // It runs on while a snapshot of it is made.
    const runs = sandbox.status === "running" || sandbox.status === "snapshotting";
    if (runs && sandbox.vm && !sandbox.vm.ended) return sandbox;
    throw new TorporError("conflict", `sandbox ${sandboxId} is ${sandbox.status}`, {
      hint: sandbox.status === "paused" ? "resume it first" : undefined,
    });
  }

  /** Runs an operation once per id, under the sandbox's lock. */
  async #operate<T>(kind: OperationKind, call: LifecycleCall, work: (operation: OperationRecord) => Promise<T>) {
    if (this.#closing && kind !== "auto_pause") {
      throw new TorporError("unavailable", "this host agent is stopping", { retryAfterSec: 1 });
    }
    const operationId = call.operationId || newId();
    const operation: OperationRecord = {
      operation_id: requireId(operationId, "operation_id"),
      kind,
      state: "running",
      error_code: "",
      error_message: "",
      snapshot_id: null,
    };
    const attributes = { "torpor.sandbox_id": call.sandboxId, "torpor.operation_id": operationId };
    return await this.#operations.run(operationId, call.sandboxId, kind, async () => {
      // Delete wins: what is in flight stops as soon as that is safe.
      if (kind === "destroy") this.#sandboxes.get(call.sandboxId)?.interrupt?.abort(destroyed());
      using _lock = await this.#locks.acquire(call.sandboxId);
      using _changed = { [Symbol.dispose]: () => this.#context.collector?.soon() };
      return await withSpan(`sandbox.${kind}`, attributes, () => work(operation));
    });
  }

  /** An operation that changes an existing sandbox and is noted in its record from begin to end. */
  async #change<T>(kind: OperationKind, call: LifecycleCall, work: Work<T>): Promise<T> {
    return await this.#operate(kind, call, async (operation) => {
      const sandbox = this.get(call.sandboxId);
      const { record } = sandbox;
      const last = record.operation;
      if (last?.operation_id === operation.operation_id && last.state === "failed") throw recordedError(last);
      requireNewest(sandbox, call.version);
      record.version = Math.max(record.version, call.version);
      // The same call, begun before this agent was started.
      if (last?.operation_id === operation.operation_id) operation.snapshot_id = last.snapshot_id;
      record.operation = operation;
      const interrupt = sandbox.interrupt = new AbortController();
      // A resume is noted together with its VM: before that, nothing has happened that a restart would have to know.
      if (kind !== "resume") await sandbox.save(this.#context.layout);
      try {
        const result = await work(sandbox, interrupt.signal, operation);
        operation.state = "succeeded";
        return result;
      } catch (thrown) {
        await this.#fail(sandbox, operation, thrown);
        throw thrown;
      } finally {
        sandbox.interrupt = undefined;
        if (this.#sandboxes.has(sandbox.id)) {
          await this.#saveOutcome(sandbox);
          if (!this.#closing) this.#idle.start(sandbox);
        }
      }
    });
  }

  async #removeOrphan(sandboxId: string): Promise<void> {
    const orphan = this.#orphans.get(sandboxId);
    this.#orphans.delete(sandboxId);
    try {
      await releaseSnapshots(this.#context.layout, this.#context.references, [orphan]);
    } catch (error) {
      if (orphan) this.#orphans.set(sandboxId, orphan);
      throw error;
    }
  }

  async #fail(sandbox: Sandbox, operation: OperationRecord, thrown: unknown): Promise<void> {
    const error = asTorporError(thrown);
    Object.assign(operation, { state: "failed", error_code: error.code, error_message: error.message });
    if (sandbox.vm?.ended) return await settleLostVm(this.#context, sandbox);
    // That no snapshot could be made of it says nothing about the sandbox itself.
    if (operation.kind === "snapshot" || operation.kind === "snapshot_and_destroy") return;
    if (!sandbox.record.reason || sandbox.record.state === "running") sandbox.record.reason = error.code;
  }

  /** The operation itself is over, and its outcome is in memory: a full disk must not turn a success into a failure. */
  async #saveOutcome(sandbox: Sandbox): Promise<void> {
    try {
      await sandbox.save(this.#context.layout);
    } catch (error) {
      log("error", "record_not_saved", { sandbox_id: sandbox.id }, error);
    }
  }

  /** Notices the end of the sandbox's VM, and arms its idle timer. */
  #watch(sandbox: Sandbox): void {
    const { vm } = sandbox;
    if (!vm) return;
    this.#idle.start(sandbox);
    const care = {
      succeed: () => succeedPager(this.#context, sandbox.id, vm),
      succeeded: () => this.#inBackground(this.#noteSuccessor(sandbox, vm)),
    };
    this.#inBackground(this.#settleWhenLost(sandbox, vm, care));
  }

  async #settleWhenLost(sandbox: Sandbox, vm: RunningVm, care: PagerCare): Promise<void> {
    if (!await watchVm(sandbox.id, vm, care)) return;
    using _lock = await this.#locks.acquire(sandbox.id);
    // An operation may have noticed it before.
    if (sandbox.vm !== vm) return;
    await settleLostVm(this.#context, sandbox);
    await this.#saveOutcome(sandbox);
  }

  /** The next agent must find the pager that serves now. */
  async #noteSuccessor(sandbox: Sandbox, vm: RunningVm): Promise<void> {
    using _lock = await this.#locks.acquire(sandbox.id);
    if (sandbox.vm !== vm || !sandbox.record.vm) return;
    sandbox.record.vm = vm.record;
    await this.#saveOutcome(sandbox);
  }

  #inBackground(work: Promise<void>): void {
    this.#background.add(work);
    work.finally(() => this.#background.delete(work));
  }

  async #pauseIdle(sandbox: Sandbox): Promise<void> {
    if (this.#closing || sandbox.status !== "running") return;
    try {
      await this.pause({ sandboxId: sandbox.id, operationId: "", version: 0 }, "auto_pause");
      log("info", "sandbox_auto_paused", { sandbox_id: sandbox.id });
    } catch (error) {
      // It runs on; the timer was armed again.
      log("error", "auto_pause_failed", { sandbox_id: sandbox.id }, error);
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

/** @throws TorporError `fenced` when the caller has been overtaken. */
function requireNewest(sandbox: Sandbox, version: number): void {
  if (version === 0 || version >= sandbox.record.version) return;
  throw new TorporError("fenced", `version ${version} is older than ${sandbox.record.version}`);
}

function destroyed(): TorporError {
  return new TorporError("canceled", "the sandbox is being deleted");
}
