import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import {
  type AttachProcessRequest,
  type AttachProcessResponse,
  AttachProcessResponseSchema,
  type CreateSnapshotRequest,
  type ExecStreamRequest,
  type ExecStreamResponse,
  ExecStreamResponseSchema,
  HostAgentService,
  type SandboxInfo,
  SandboxInfoSchema,
  type SnapshotInfo,
  SnapshotInfoSchema,
} from "@torpor/proto/hostagent";
import { errorResponse, parseAddress, type RunningService, serve } from "@torpor/rpc";

type LifecycleMethod = "createSandbox" | "pauseSandbox" | "resumeSandbox" | "destroySandbox" | "createSnapshot";
type FaultyMethod = LifecycleMethod | "exec" | "deleteSnapshot" | "updateNetwork";

/** What the fake does on demand: a real host would need a VM killed at the right moment. */
export interface HostFaults {
  /** Thrown by the next calls of a method. */
  errors: Partial<Record<FaultyMethod, TorporError>>;
  /** Waited for before a lifecycle call is answered. */
  gate: Promise<void> | undefined;
}

/**
 * A host agent without VMs: it keeps what it was told and answers by it. Commands are words that it knows; see
 * {@linkcode FakeHost.events}. Only for tests of what stands in front of a host.
 */
export class FakeHost implements AsyncDisposable {
  readonly sandboxes = new Map<string, SandboxInfo>();
  readonly kept = new Map<string, { snapshot: SnapshotInfo; name: string; sandboxId: string }>();
  readonly files = new Map<string, Uint8Array>();
  readonly faults: HostFaults = { errors: {}, gate: undefined };
  readonly calls: { method: string; request: unknown }[] = [];
  readonly inputs: Uint8Array[] = [];
  /** What reading the data of any snapshot shows. */
  verdicts = [{ file: "memory.data", verdict: "good", bytes: 8192n }];
  /** What a manifest reads like, when it is not what it should be. */
  manifestJson?: string;
  /** The trace context that calls came with, by method. */
  readonly traceparents = new Map<string, string | null>();
  /** Bytes that uploads to `/dev/null` have brought, and whether the last upload came to its end. */
  discarded = 0;
  uploadFinished = false;
  /** Bytes that downloads of `/dev/zero` have handed out. */
  produced = 0;
  /** Resolved when a stream or transfer has been given up by its reader. */
  readonly abandoned = Promise.withResolvers<string>();
  readonly #operations = new Map<string, { state: string; error?: TorporError }>();
  #service!: RunningService;

  constructor(readonly hostId: string, readonly address: string, private readonly token: string) {}

  /** Starts one that listens at `address`. */
  static async start(address: string, token: string): Promise<FakeHost> {
    const host = new FakeHost(newId(), address, token);
    host.#service = await serve({
      listen: parseAddress(address),
      token,
      routes: (router) => router.service(HostAgentService, host.#methods()),
      http: (request) => host.#data(request),
    });
    return host;
  }

  #methods(): Partial<ServiceImpl<typeof HostAgentService>> {
    return {
      createSandbox: (request, context) => {
        this.traceparents.set("createSandbox", context.requestHeader.get("traceparent"));
        return this.#lifecycle("createSandbox", request, () => {
          if (request.snapshotId !== "" && !this.kept.has(request.snapshotId)) {
            throw new TorporError("snapshot_not_found", "no such snapshot");
          }
          const { sandboxId, template, vcpus, memoryMb, diskSizeMb, timeoutSec, version, operationId } = request;
          this.sandboxes.set(
            sandboxId,
            create(SandboxInfoSchema, {
              sandboxId,
              status: "running",
              template,
              vcpus,
              memoryMb,
              diskSizeMb,
              timeoutSec,
              version,
              operationId,
              accelerator: "tcg",
              createdAtUnix: BigInt(Math.floor(Date.now() / 1000)),
              lastActiveAtUnix: BigInt(Math.floor(Date.now() / 1000)),
            }),
          );
          return { sandboxId, status: "running", accelerator: "tcg" };
        });
      },
      pauseSandbox: (request) =>
        this.#lifecycle("pauseSandbox", request, () => {
          const sandbox = this.#sandbox(request.sandboxId);
          const generation = (sandbox.snapshot?.generation ?? 0) + 1;
          const snapshot = create(SnapshotInfoSchema, {
            snapshotId: newId(),
            generation,
            sizeBytes: 4096n * BigInt(generation),
            memoryBytes: 4096n,
            pagesResident: 100n,
            pagesDirty: 10n,
            pagesData: 50n,
            diskBytes: 8192n,
            createdAtUnixMs: BigInt(Date.now()),
          });
          this.sandboxes.set(request.sandboxId, create(SandboxInfoSchema, { ...sandbox, status: "paused", snapshot }));
          const hooks = request.reclaim?.fstrimMs ? [{ step: "fstrim", outcome: "ok", bytesTrimmed: 4096n }] : [];
          return { snapshot, hooks };
        }),
      updateNetwork: ({ sandboxId, network, networkRevision }) => {
        if (this.faults.errors.updateNetwork) throw this.faults.errors.updateNetwork;
        this.calls.push({ method: "updateNetwork", request: { sandboxId, network, networkRevision } });
        this.#sandbox(sandboxId).networkRevision = networkRevision;
        return { networkRevision };
      },
      createSnapshot: (request) => this.#lifecycle("createSnapshot", request, () => this.#keep(request)),
      deleteSnapshot: ({ snapshotId }) => {
        if (this.faults.errors.deleteSnapshot) throw this.faults.errors.deleteSnapshot;
        this.kept.delete(snapshotId);
        return {};
      },
      listSnapshots: () => ({ snapshots: [...this.kept.values()] }),
      inspectSnapshot: ({ snapshotId, sandboxId, verify }, context) => {
        this.calls.push({ method: "inspectSnapshot", request: { verify, timeoutMs: context.timeoutMs() } });
        const snapshot = sandboxId === "" ? this.kept.get(snapshotId)?.snapshot : this.#sandbox(sandboxId).snapshot;
        if (!snapshot) throw new TorporError("snapshot_not_found", "no such snapshot");
        const id = snapshot.snapshotId;
        const sources = [{ snapshotId: id, liveBytes: 4096n, extents: 1, storedBytes: 8192n }];
        return {
          manifestJson: this.manifestJson ?? JSON.stringify({ snapshot_id: id }),
          memory: { sizeBytes: 134217728n, extents: 2, zeroBytes: 4096n, sources },
          generations: [{ snapshotId: id, generation: 1, committed: true, storedBytes: 8192n, createdAtUnixMs: 1n }],
          verified: verify ? this.verdicts.map((one) => ({ ...one, snapshotId: id })) : [],
          knownDamage: this.verdicts.filter(({ verdict }) => verdict !== "good").map((one) => ({
            ...one,
            snapshotId: id,
          })),
        };
      },
      collectSnapshots: ({ dryRun }) => {
        this.calls.push({ method: "collectSnapshots", request: dryRun });
        return { bytes: 8192n, collected: [{ snapshotId: newId(), action: "unreferenced", bytes: 8192n }] };
      },
      resumeSandbox: (request) =>
        this.#lifecycle("resumeSandbox", request, () => {
          this.#sandbox(request.sandboxId).status = "running";
          return { sandboxId: request.sandboxId, status: "running", accelerator: "tcg" };
        }),
      destroySandbox: (request) =>
        this.#lifecycle("destroySandbox", request, () => {
          this.sandboxes.delete(request.sandboxId);
          return {};
        }),
      listSandboxes: () => ({ hostId: this.hostId, sandboxes: [...this.sandboxes.values()] }),
      getSandbox: ({ sandboxId }) => ({ sandbox: this.#sandbox(sandboxId) }),
      getOperation: ({ sandboxId, operationId }) => {
        const operation = this.#operations.get(operationId);
        if (!operation) throw new TorporError("operation_not_found", "never begun here");
        const sandbox = this.sandboxes.get(sandboxId);
        return { state: operation.state, errorCode: operation.error?.code, sandbox };
      },
      pingSandbox: ({ sandboxId }) => {
        this.#running(sandboxId);
        this.calls.push({ method: "pingSandbox", request: sandboxId });
        return {};
      },
      exec: (request, context) => {
        this.traceparents.set("exec", context.requestHeader.get("traceparent"));
        this.#running(request.sandboxId);
        this.calls.push({ method: "exec", request });
        if (this.faults.errors.exec) throw this.faults.errors.exec;
        const stdout = request.cmd === "bytes" ? Uint8Array.from({ length: 256 }, (_, i) => i) : request.stdin;
        return { stdout, stderr: new TextEncoder().encode("grüße"), exitCode: request.cmd === "fail" ? 3 : 0, pid: 7 };
      },
      execStream: (request, context) => {
        this.traceparents.set("execStream", context.requestHeader.get("traceparent"));
        return this.#events(request, context.signal);
      },
      attachProcess: (request) => this.#attached(request),
      sendProcessInput: (request) => {
        this.#process(request.sandboxId, request.pid);
        this.inputs.push(request.data);
        return {};
      },
      signalProcess: (request) => {
        this.#process(request.sandboxId, request.pid);
        this.calls.push({ method: "signalProcess", request });
        return {};
      },
      listProcesses: ({ sandboxId }) => {
        this.#running(sandboxId);
        return { processes: [{ pid: 7, argv: ["sleep", "1"], user: "user", running: true, startedAtUnixMs: 1n }] };
      },
      statFile: ({ sandboxId, path }) => ({ file: this.#file(sandboxId, path) }),
      listDirectory: ({ sandboxId }) => {
        this.#running(sandboxId);
        return { files: [...this.files.keys()].map((path) => this.#file(sandboxId, path)) };
      },
      makeDirectory: ({ sandboxId, path }) => {
        this.#running(sandboxId);
        this.calls.push({ method: "makeDirectory", request: path });
        return {};
      },
      removeFile: ({ sandboxId, path }) => {
        this.#file(sandboxId, path);
        this.files.delete(path);
        return {};
      },
      getMemoryStats: ({ sandboxId }) => {
        this.#running(sandboxId);
        return { pagesTotal: 32768n, pagesResident: 9n, faults: 5n, faultP50Us: 1.5, faultP99Us: 9.5, lazy: true };
      },
    };
  }

  async #lifecycle<T>(
    method: LifecycleMethod,
    request: { sandboxId: string; operationId: string },
    work: () => T,
  ): Promise<T> {
    this.calls.push({ method, request });
    this.#operations.set(request.operationId, { state: "running" });
    await this.faults.gate;
    const error = this.faults.errors[method];
    this.#operations.set(request.operationId, error ? { state: "failed", error } : { state: "succeeded" });
    if (error) throw error;
    return work();
  }

  /** `hello`: some output; `silent`: none and no end; `forever`: output without end; `die`: the VM ends after some. */
  async *#events(request: ExecStreamRequest, signal: AbortSignal): AsyncGenerator<ExecStreamResponse> {
    this.#running(request.sandboxId);
    this.calls.push({ method: "execStream", request });
    if (request.cmd === "missing") throw new TorporError("file_not_found", "no such program");
    const data = (sequence: number, output: "stdout" | "stderr", bytes: Uint8Array) =>
      create(ExecStreamResponseSchema, {
        event: { case: "data", value: { sequence: BigInt(sequence), output: { case: output, value: bytes } } },
      });
    let ended = false;
    try {
      yield create(ExecStreamResponseSchema, { event: { case: "start", value: { pid: 7 } } });
      if (request.cmd === "silent") await new Promise((_, reject) => signal.addEventListener("abort", reject));
      yield data(1, "stdout", Uint8Array.of(0, 255, 128));
      yield data(2, "stderr", new TextEncoder().encode("warning"));
      for (let n = 3; request.cmd === "forever"; n++) {
        signal.throwIfAborted();
        this.produced += 65536;
        yield data(n, "stdout", new Uint8Array(65536));
      }
      if (request.cmd === "die") throw new TorporError("vm_gone", "the VM ended");
      yield create(ExecStreamResponseSchema, { event: { case: "end", value: { exitCode: 3 } } });
      ended = true;
    } finally {
      if (!ended) this.abandoned.resolve("exec");
    }
  }

  /** Two events that were lost, one that was not; then the process of which 10 events were seen is paused, others end. */
  async *#attached(request: AttachProcessRequest): AsyncGenerator<AttachProcessResponse> {
    this.#process(request.sandboxId, request.pid);
    this.calls.push({ method: "attachProcess", request });
    const { afterSequence } = request;
    const gap = { firstLostSequence: afterSequence + 1n, lastLostSequence: afterSequence + 2n, lostBytes: 9n };
    const output = { case: "stdout", value: new TextEncoder().encode("tail") } as const;
    const events: MessageInitShape<typeof AttachProcessResponseSchema>["event"][] = [
      { case: "start", value: { pid: 7, startedAtUnixMs: 1n } },
      { case: "gap", value: gap },
      { case: "data", value: { sequence: afterSequence + 3n, output } },
      afterSequence === 10n ? { case: "paused", value: {} } : { case: "end", value: { exitCode: 137, signal: 9 } },
    ];
    for (const event of events) yield create(AttachProcessResponseSchema, { event });
  }

  /** GET and PUT /sandboxes/{id}/files, as the real agent has them. */
  async #data(request: Request): Promise<Response | undefined> {
    const url = new URL(request.url);
    const match = /^\/sandboxes\/([a-z0-9]{20})\/files$/.exec(url.pathname);
    if (!match) return undefined;
    const path = url.searchParams.get("path") ?? "";
    try {
      this.traceparents.set(request.method, request.headers.get("traceparent"));
      this.#running(match[1]!);
      return request.method === "PUT" ? await this.#upload(path, request) : this.#download(path, url);
    } catch (thrown) {
      return errorResponse(thrown);
    }
  }

  async #upload(path: string, request: Request): Promise<Response> {
    this.uploadFinished = false;
    if (path === "/denied") throw new TorporError("permission_denied", "not yours");
    const chunks: Uint8Array[] = [];
    try {
      for await (const chunk of request.body ?? []) {
        this.discarded += chunk.length;
        if (path !== "/dev/null") chunks.push(chunk);
      }
    } catch (thrown) {
      this.abandoned.resolve("upload");
      throw thrown;
    }
    this.uploadFinished = true;
    if (path !== "/dev/null") this.files.set(path, new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer()));
    return new Response(null, { status: 204 });
  }

  /** `/dev/zero`: `size` bytes made as they are read; `/broken`: an error after the first 1,000 bytes. */
  #download(path: string, url: URL): Response {
    if (path === "/dev/zero") {
      return new Response(this.#zeros(Number(url.searchParams.get("user")?.slice(1) || Infinity)));
    }
    if (path === "/broken") {
      const body = new ReadableStream({
        pull: (controller) => {
          if (this.produced > 0) return controller.error(new Error("the VM ended"));
          this.produced += 1000;
          controller.enqueue(new Uint8Array(1000));
        },
      }, { highWaterMark: 0 });
      return new Response(body, { headers: { "content-length": "5000" } });
    }
    const content = this.files.get(path);
    if (!content) throw new TorporError("file_not_found", `no file ${path}`);
    return new Response(content as BodyInit, { headers: { "content-length": String(content.length) } });
  }

  #zeros(size: number): ReadableStream<Uint8Array> {
    const chunk = new Uint8Array(65536);
    return new ReadableStream({
      pull: (controller) => {
        if (this.produced >= size) return controller.close();
        const part = chunk.subarray(0, Math.min(chunk.length, size - this.produced));
        this.produced += part.length;
        controller.enqueue(part);
      },
      cancel: () => this.abandoned.resolve("download"),
    }, { highWaterMark: 0 });
  }

  #keep({ sandboxId, snapshotId, name }: CreateSnapshotRequest) {
    const running = this.#sandbox(sandboxId).status === "running";
    const snapshot = create(SnapshotInfoSchema, {
      snapshotId,
      generation: 1,
      sizeBytes: 8192n,
      memoryBytes: 4096n,
      diskBytes: 4096n,
      pagesDirty: 1n,
      pagesData: 1n,
      createdAtUnixMs: BigInt(Date.now()),
    });
    this.kept.set(snapshotId, { snapshot, name, sandboxId });
    return { name, snapshot, sizeBytes: 8192n, stoppedUs: running ? 7000n : 0n };
  }

  #sandbox(id: string): SandboxInfo {
    const sandbox = this.sandboxes.get(id);
    if (!sandbox) throw new TorporError("sandbox_not_found", `no sandbox ${id} here`);
    return sandbox;
  }

  #running(id: string): void {
    if (this.#sandbox(id).status !== "running") throw new TorporError("conflict", "it does not run");
  }

  #process(id: string, pid: number): void {
    this.#running(id);
    if (pid !== 7) throw new TorporError("process_not_found", `no process ${pid}`);
  }

  #file(id: string, path: string) {
    this.#running(id);
    const content = this.files.get(path);
    if (!content) throw new TorporError("file_not_found", `no file ${path}`);
    const name = path.split("/").at(-1)!;
    return { name, path, type: "file", sizeBytes: BigInt(content.length), mode: 0o644, owner: "user", group: "user" };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#service[Symbol.asyncDispose]();
  }
}
