/**
 * A host agent without VMs, over a real unix socket, only to inject what the real one cannot be made to do on demand:
 * calls that fail before or after their work, that hang, replies that get lost, a host that vanishes. It keeps the
 * contract's promises: idempotent by operation id, fenced by version, one lifecycle call per sandbox at a time.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type ErrorCode, TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import {
  type CreateSandboxRequest,
  type CreateSnapshotRequest,
  HostAgentService,
  type ListSandboxesRequest,
  type ListSnapshotsRequest,
  type NetworkPolicy,
  type SandboxInfoSchema,
  type SnapshotInfoSchema,
} from "@torpor/proto/hostagent";
import { formatAddress, type RunningService, serve } from "@torpor/rpc";
import { chooseListing, questionOfSnapshots } from "../../services/hostagent/rpc/list_sandboxes.ts";
import { ChangeLog, type Stamp } from "../../services/hostagent/sandbox/change_log.ts";

/** The lifecycle calls that faults can be injected into. */
export type FakeMethod =
  | "createSandbox"
  | "pauseSandbox"
  | "resumeSandbox"
  | "destroySandbox"
  | "createSnapshot"
  | "deleteSnapshot"
  | "updateNetwork";

/** What happens to one call. */
export interface Fault {
  /** Throws this instead of working, or, with `afterWork`, instead of the reply (a lost reply: `unavailable`). */
  code?: ErrorCode;
  afterWork?: boolean;
  /** Called when the call is about to work, which it does not before this resolves. */
  gate?: () => Promise<void>;
}

/** Holds a call; see {@linkcode FakeHost.hold}. */
export interface Gate {
  reached: Promise<void>;
  release: () => void;
}

/** A sandbox on the fake host. */
export interface FakeSandbox {
  status: "running" | "paused" | "failed";
  version: bigint;
  operationId: string;
  generation: number;
  snapshot?: MessageInitShape<typeof SnapshotInfoSchema>;
  reason: string;
  guestStopped?: boolean;
  createdAtUnix: number;
  lastActiveAtUnix: number;
  uniqueBytes?: bigint;
  sharedBytes?: bigint;
  memoryMb: number;
  /** What it may reach, by its newest revision. */
  network?: NetworkPolicy;
  networkRevision: bigint;
}

/** A snapshot that belongs to no sandbox. */
export interface FakeKept {
  snapshot: MessageInitShape<typeof SnapshotInfoSchema>;
  name: string;
  sandboxId: string;
  memoryMb: number;
  /** Why it cannot be used. */
  reason?: string;
  uniqueBytes?: bigint;
  sharedBytes?: bigint;
}

interface LifecycleRequest {
  sandboxId: string;
  operationId: string;
  version: bigint;
}

type FakeOperation = { promise: Promise<unknown>; state: "running" | "succeeded" | "failed"; error?: TorporError };

/** See the module's comment. */
export class FakeHost implements AsyncDisposable {
  readonly hostId = newId();
  readonly sandboxes = new Map<string, FakeSandbox>();
  readonly autoPaused = new Set<string>();
  readonly kept = new Map<string, FakeKept>();
  /** Lifecycle calls in the order of their arrival. */
  readonly calls: { method: FakeMethod; request: LifecycleRequest }[] = [];
  /** Questions for the inventory in the order of their arrival. */
  readonly lists: ListSandboxesRequest[] = [];
  /** The same about snapshots. */
  readonly snapshotLists: ListSnapshotsRequest[] = [];
  #changes = new ChangeLog();
  #keptChanges = new ChangeLog();
  #hidden = new Map<string, Stamp>();
  #operations = new Map<string, FakeOperation>();
  #faults = new Map<FakeMethod, Fault[]>();
  #locks = new Map<string, Promise<unknown>>();
  #service: RunningService | undefined;

  private constructor(private readonly directory: string, private readonly token: string) {}

  /** Starts one that listens on a socket in a new temporary directory. */
  static async start(token: string): Promise<FakeHost> {
    const host = new FakeHost(await Deno.makeTempDir(), token);
    await host.comeBack();
    return host;
  }

  /** false between {@linkcode vanish} and {@linkcode comeBack}. */
  get listens(): boolean {
    return this.#service !== undefined;
  }

  /** `unix:/…`, as it is registered with the scheduler. */
  get address(): string {
    return formatAddress({ transport: "unix", path: `${this.directory}/agent.sock` });
  }

  /** The next call of `method` meets this fault. */
  inject(method: FakeMethod, fault: Fault): void {
    this.#faults.set(method, [...this.#faults.get(method) ?? [], fault]);
  }

  /** Holds the next call of `method` before its work until it is released; `code` then fails it. */
  hold(method: FakeMethod, fault: Omit<Fault, "gate"> = {}): Gate {
    const reached = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    const gate = () => {
      reached.resolve();
      return released.promise;
    };
    this.inject(method, { ...fault, gate });
    return { reached: reached.promise, release: released.resolve };
  }

  /** Forgets all sandboxes, faults and calls. */
  reset(): void {
    const all = [this.sandboxes, this.autoPaused, this.kept, this.#operations, this.#faults, this.#locks];
    for (const some of all) some.clear();
    this.calls.length = 0;
    this.lists.length = 0;
  }

  /** As after a restart of the agent: the sandboxes are there, the history of their changes is not. */
  forgetChanges(): void {
    this.#changes = new ChangeLog();
    this.#keptChanges = new ChangeLog();
  }

  /** As after a restart of the agent: sandboxes stay, what it remembers of operations does not. */
  restart(): void {
    for (const [id, { state }] of this.#operations) if (state !== "running") this.#operations.delete(id);
  }

  /** Stops to listen; sandboxes stay. */
  async vanish(): Promise<void> {
    const service = this.#service;
    this.#service = undefined;
    await service?.[Symbol.asyncDispose]();
  }

  /** Listens again. */
  async comeBack(): Promise<void> {
    this.#service = await serve({
      listen: { transport: "unix", path: `${this.directory}/agent.sock` },
      token: this.token,
      routes: (router) =>
        router.service(HostAgentService, {
          createSandbox: (request) =>
            this.#lifecycle("createSandbox", request, () => {
              if (request.snapshotId !== "") this.#requireSpawnable(request);
              this.sandboxes.set(request.sandboxId, newSandbox(request));
              return { sandboxId: request.sandboxId, status: "running", accelerator: "tcg" };
            }),
          pauseSandbox: (request) =>
            this.#lifecycle("pauseSandbox", request, () => ({ snapshot: this.pause(request.sandboxId) })),
          resumeSandbox: (request) =>
            this.#lifecycle("resumeSandbox", request, () => {
              const sandbox = this.#require(request.sandboxId, "paused");
              const { network, networkRevision } = request;
              Object.assign(sandbox, { status: "running", reason: "", network, networkRevision });
              return { sandboxId: request.sandboxId, status: "running", accelerator: "tcg" };
            }),
          updateNetwork: async (request) => {
            this.calls.push({ method: "updateNetwork", request: { ...request, operationId: "" } });
            const fault = this.#faults.get("updateNetwork")?.shift();
            await fault?.gate?.();
            if (fault?.code && !fault.afterWork) throw new TorporError(fault.code, "injected before the work");
            await this.#locks.get(request.sandboxId);
            const sandbox = this.sandboxes.get(request.sandboxId);
            if (!sandbox) throw new TorporError("sandbox_not_found", "no such sandbox");
            if (request.version < sandbox.version) throw new TorporError("fenced", "an older version");
            const { network, networkRevision } = request;
            if (networkRevision > sandbox.networkRevision) Object.assign(sandbox, { network, networkRevision });
            if (fault?.code) throw new TorporError(fault.code, "injected after the work");
            return { networkRevision: sandbox.networkRevision };
          },
          destroySandbox: (request) =>
            this.#lifecycle("destroySandbox", request, () => {
              this.sandboxes.delete(request.sandboxId);
              return {};
            }),
          createSnapshot: (request) => this.#lifecycle("createSnapshot", request, () => this.#keep(request)),
          deleteSnapshot: async (request) => {
            const fault = this.#faults.get("deleteSnapshot")?.shift();
            await fault?.gate?.();
            if (fault?.code && !fault.afterWork) throw new TorporError(fault.code, "injected before the work");
            this.kept.delete(request.snapshotId);
            if (fault?.code) throw new TorporError(fault.code, "injected after the work");
            return {};
          },
          listSnapshots: (request) => {
            this.snapshotLists.push(request);
            this.#keptChanges.observe(this.kept, ([id, { reason, uniqueBytes, sharedBytes }]) => {
              return [id, [reason, uniqueBytes, sharedBytes]];
            });
            const { ids, ...listing } = chooseListing(questionOfSnapshots(request), this.kept, this.#keptChanges);
            const { removedSandboxIds: removedSnapshotIds, pageEndId: _pageEndId, ...rest } = listing;
            return { ...rest, removedSnapshotIds, snapshots: [...ids].map((id) => this.kept.get(id)!) };
          },
          getSandbox: (request) => {
            const sandbox = this.#info(request.sandboxId);
            if (!sandbox) throw new TorporError("sandbox_not_found", "no such sandbox");
            return { sandbox };
          },
          getOperation: (request) => {
            const operation = this.#operations.get(request.operationId);
            if (!operation) throw new TorporError("operation_not_found", "no such operation");
            return {
              state: operation.state,
              errorCode: operation.error?.code ?? "",
              errorMessage: operation.error?.message ?? "",
              sandbox: this.#info(request.sandboxId),
            };
          },
          listSandboxes: (request) => {
            for (const id of request.acknowledgedAutoPausedIds) this.autoPaused.delete(id);
            this.lists.push(request);
            this.#changes.observe(this.sandboxes, ([id, one]) => [id, this.#hidden.get(id) ?? stampOf(one)]);
            const { ids, ...listing } = chooseListing(request, this.sandboxes, this.#changes);
            const listed = new Set([...ids, ...this.autoPaused]);
            const sandboxes = [...listed].map((id) => this.#info(id)).filter((info) => info !== undefined);
            return { ...listing, hostId: this.hostId, sandboxes, autoPausedSandboxIds: [...this.autoPaused] };
          },
        }),
    });
  }

  /** From now on changes of this sandbox are told to nobody who asks for changes. */
  hideChanges(sandboxId: string): void {
    this.#hidden.set(sandboxId, stampOf(this.sandboxes.get(sandboxId)!));
  }

  /** Pauses a sandbox as the host itself does at an idle timeout, or as part of a call. */
  pause(sandboxId: string): MessageInitShape<typeof SnapshotInfoSchema> {
    const sandbox = this.#require(sandboxId, "running");
    sandbox.status = "paused";
    sandbox.generation += 1;
    sandbox.snapshot = snapshotOf(sandbox);
    return sandbox.snapshot;
  }

  /** As {@linkcode pause}, by itself. */
  pauseIfRunning(sandboxId: string): void {
    if (this.sandboxes.get(sandboxId)?.status === "running") this.pause(sandboxId);
  }

  /** A checkpoint of a running sandbox, or the newest generation of a paused one. */
  #keep(request: CreateSnapshotRequest) {
    const sandbox = this.sandboxes.get(request.sandboxId);
    if (!sandbox) throw new TorporError("sandbox_not_found", "no such sandbox");
    if (sandbox.status === "failed") throw new TorporError("conflict", "the sandbox has no VM and no snapshot");
    const snapshot = { ...snapshotOf(sandbox), snapshotId: request.snapshotId };
    const { name, sandboxId } = request;
    this.kept.set(request.snapshotId, { snapshot, name, sandboxId, memoryMb: sandbox.memoryMb });
    return { name, snapshot, sizeBytes: snapshot.sizeBytes, stoppedUs: sandbox.status === "running" ? 4200n : 0n };
  }

  #requireSpawnable({ snapshotId, memoryMb }: CreateSandboxRequest): void {
    const kept = this.kept.get(snapshotId);
    if (!kept) throw new TorporError("snapshot_not_found", "no such snapshot");
    if (memoryMb !== 0 && memoryMb !== kept.memoryMb) {
      throw new TorporError("snapshot_mismatch", `the snapshot has ${kept.memoryMb} MiB`);
    }
  }

  #require(sandboxId: string, status: FakeSandbox["status"]): FakeSandbox {
    const sandbox = this.sandboxes.get(sandboxId);
    if (!sandbox) throw new TorporError("sandbox_not_found", "no such sandbox");
    if (sandbox.status !== status) throw new TorporError("conflict", `the sandbox is ${sandbox.status}`);
    return sandbox;
  }

  #info(sandboxId: string): MessageInitShape<typeof SandboxInfoSchema> | undefined {
    const sandbox = this.sandboxes.get(sandboxId);
    return sandbox && {
      ...sandbox,
      sandboxId,
      accelerator: "tcg",
      createdAtUnix: BigInt(sandbox.createdAtUnix),
      uniqueBytes: sandbox.uniqueBytes,
      sharedBytes: sandbox.sharedBytes,
      lastActiveAtUnix: BigInt(sandbox.lastActiveAtUnix),
      unusedForMs: BigInt(Math.max(0, Date.now() - sandbox.lastActiveAtUnix * 1000)),
    };
  }

  async #lifecycle<T>(method: FakeMethod, request: LifecycleRequest, work: () => T): Promise<T> {
    this.calls.push({ method, request });
    const fault = this.#faults.get(method)?.shift();
    const known = this.#operations.get(request.operationId);
    if (known) return await known.promise as T;
    const before = this.#locks.get(request.sandboxId);
    const operation: FakeOperation = { state: "running", promise: Promise.resolve() };
    const promise = this.#work(request, before, fault, work, operation);
    operation.promise = promise;
    promise.catch(() => {});
    this.#locks.set(request.sandboxId, promise.catch(() => {}));
    this.#operations.set(request.operationId, operation);
    const result = await promise;
    if (fault?.code && fault.afterWork) throw new TorporError(fault.code, "injected after the work");
    return result;
  }

  async #work<T>(
    request: LifecycleRequest,
    before: Promise<unknown> | undefined,
    fault: Fault | undefined,
    work: () => T,
    operation: FakeOperation,
  ): Promise<T> {
    try {
      await before;
      await fault?.gate?.();
      if (fault?.code && !fault.afterWork) throw new TorporError(fault.code, "injected before the work");
      const sandbox = this.sandboxes.get(request.sandboxId);
      if (sandbox && request.version !== 0n && request.version < sandbox.version) {
        throw new TorporError("fenced", `version ${request.version} is older than ${sandbox.version}`);
      }
      const result = work();
      const after = this.sandboxes.get(request.sandboxId);
      if (after) Object.assign(after, { version: request.version, operationId: request.operationId });
      operation.state = "succeeded";
      return result;
    } catch (thrown) {
      operation.state = "failed";
      operation.error = thrown as TorporError;
      throw thrown;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vanish();
    await Deno.remove(this.directory, { recursive: true });
  }
}

function stampOf({ status, version, reason, snapshot, lastActiveAtUnix, ...rest }: FakeSandbox): Stamp {
  const { guestStopped, uniqueBytes, sharedBytes } = rest;
  return [
    status,
    version,
    reason,
    guestStopped,
    rest.networkRevision,
    snapshot?.snapshotId,
    snapshot?.generation,
    lastActiveAtUnix,
    uniqueBytes,
    sharedBytes,
  ];
}

function newSandbox(request: CreateSandboxRequest): FakeSandbox {
  const now = Math.floor(Date.now() / 1000);
  return {
    status: "running",
    version: request.version,
    operationId: request.operationId,
    generation: 0,
    reason: "",
    createdAtUnix: now,
    lastActiveAtUnix: now,
    memoryMb: request.memoryMb,
    network: request.network,
    networkRevision: request.networkRevision,
  };
}

function snapshotOf(sandbox: FakeSandbox): MessageInitShape<typeof SnapshotInfoSchema> {
  const pages = BigInt(sandbox.memoryMb) * 256n;
  return {
    snapshotId: newId(),
    generation: sandbox.generation,
    sizeBytes: pages * 4096n,
    memoryBytes: pages * 4096n,
    pagesResident: pages,
    pagesDirty: pages,
    pagesData: pages,
    createdAtUnixMs: BigInt(Date.now()),
    diskBytes: 0n,
  };
}
