import { create } from "@bufbuild/protobuf";
import type { TorporError } from "@torpor/errors";
import {
  AttachProcessSchema,
  ConnectPortSchema,
  EnvironmentVariableSchema,
  type FileEntry,
  type Frame,
  GetMetricsSchema,
  type HelloReply,
  type HookReport,
  ListDirectorySchema,
  ListProcessesSchema,
  MakeDirectorySchema,
  type Metrics,
  PingSchema,
  type Pong,
  PreparePauseSchema,
  type ProcessInfo,
  ReadFileSchema,
  RemoveFileSchema,
  SignalProcessSchema,
  StartProcessSchema,
  StatFileSchema,
  SyncSchema,
  WriteFileSchema,
  WriteStdinSchema,
} from "@torpor/proto/guest";
import { collect, type EventCase, take } from "./answers.ts";
import type { AttachOptions, CallOptions, FileOptions, PauseSteps, ProcessSpec } from "./calls.ts";
import type { GuestConnection } from "./connection.ts";
import type { FrameBody } from "./event_queue.ts";
import { type OpenedFile, openFileStream, sendFile } from "./file_transfer.ts";
import { watchLiveness } from "./liveness.ts";
import { MAX_DATA_BYTES, PORT_WINDOW_BYTES } from "./limits.ts";
import { PortStream } from "./port_stream.ts";
import { ProcessStream } from "./process_stream.ts";
import { protocolError, unreachableError } from "./protocol_error.ts";
import { atMost, exactly, fileContent, listing, portBytes, processEvents } from "./stream_rules.ts";
import { type GuestRequest, type OpenOptions, StreamTable } from "./stream_table.ts";
import { type WakeCall, wakeRequest, type WakeResult } from "./wake.ts";

/** The kinds of steps that {@linkcode PauseSteps} can ask for. */
const PAUSE_STEPS = 5;

/**
 * Requests to one guest agent, over one connection. Errors of all methods, besides those named: `guest_unreachable` (the
 * channel closed; the request may have been carried out), `canceled` and `deadline_exceeded` (the signal), `rate_limited`
 * (too many at once), `invalid_argument`, `permission_denied`, `no_space`, `internal` (the guest's status; the cause is a
 * GuestStatusError with its errno).
 */
export class GuestChannel implements AsyncDisposable {
  /** Version of the guest's agent. */
  readonly agentVersion: string;
  /** Changes when the guest's agent is restarted, not by pause and resume. */
  readonly bootId: bigint;
  /**
   * Resolves when the channel is over: undefined when it was disposed, else the reason. All open requests have failed
   * with `guest_unreachable` by then.
   */
  readonly closed: Promise<TorporError | undefined>;
  readonly #connection: GuestConnection;
  readonly #streams: StreamTable;
  #closedFor: TorporError | undefined;

  /** The answer to the Wake that went out before the channel was open; see `openAndWake`. */
  readonly woken: Promise<WakeResult> | undefined;

  /** Use `openGuestChannel` or `openAndWake`. */
  constructor(connection: GuestConnection, hello: HelloReply, sentWake?: { call: WakeCall; sentUnixMs: number }) {
    this.agentVersion = hello.agentVersion.slice(0, 64);
    this.bootId = hello.bootId;
    this.#connection = connection;
    this.#streams = new StreamTable(connection);
    this.woken = sentWake && this.wake(sentWake.call, { sentUnixMs: sentWake.sentUnixMs });
    this.woken?.catch(() => {}); // Its caller has the error.
    connection.deliverTo({ onFrame: (frame, encodedBytes) => this.#onFrame(frame, encodedBytes) });
    const stopWatching = watchLiveness({
      isIdle: () => this.#streams.size === 0,
      lastReceivedMs: () => connection.lastReceivedMs,
      ping: (signal) => this.ping({ signal }),
      fail: (error) => connection.close(error),
    });
    this.closed = connection.closed.then((error) => {
      stopWatching();
      this.#streams.failAll(this.#closedFor ?? unreachableError("the connection to the guest agent ended", error));
      return error;
    });
  }

  /**
   * Starts a process and follows it. The signal only detaches: it does not end the process.
   * @throws TorporError `file_not_found`: no such program, working directory or user.
   */
  async startProcess(spec: ProcessSpec, options: CallOptions = {}): Promise<ProcessStream> {
    const value = create(StartProcessSchema, {
      argv: spec.argv,
      environment: Object.entries(spec.environment ?? {}).map(([name, value]) =>
        create(EnvironmentVariableSchema, { name, value })
      ),
      workingDirectory: spec.workingDirectory,
      user: spec.user,
      stdin: spec.stdin,
      timeoutMs: BigInt(spec.timeoutMs ?? 0),
      neverHoldBack: !(spec.holdBack ?? true),
    });
    const rules = processEvents(1n);
    return await ProcessStream.open(
      this.#streams.open({ case: "startProcess", value }, { ...options, subject: "file", rules }),
    );
  }

  /**
   * Follows a process that runs, or has ended not long ago: what its log holds behind event `afterSequence`, then the rest.
   * @throws TorporError `process_not_found`; `conflict` when its log ends before that event.
   */
  async attachProcess(pid: number, options: AttachOptions = {}): Promise<ProcessStream> {
    const { afterSequence, startedUnixMs, holdBack } = options;
    const value = create(AttachProcessSchema, { pid, afterSequence, startedUnixMs, holdBack });
    const rules = processEvents();
    return await ProcessStream.open(
      this.#streams.open({ case: "attachProcess", value }, { ...options, subject: "process", rules }),
    );
  }

  /** Signals the process group of a process. @throws TorporError `process_not_found`, `conflict` (it has ended). */
  async signalProcess(pid: number, signal: number, options: CallOptions = {}): Promise<void> {
    const value = create(SignalProcessSchema, { pid, signal });
    await this.#call({ case: "signalProcess", value }, { ...options, subject: "process", rules: exactly() });
  }

  /** The processes that the host started, running and lately ended. */
  async listProcesses(options: CallOptions = {}): Promise<ProcessInfo[]> {
    const request: GuestRequest = { case: "listProcesses", value: create(ListProcessesSchema) };
    const rules = listing("processInfo");
    return (await this.#call(request, { ...options, subject: "process", rules })).map((body) =>
      take(body, "processInfo")
    );
  }

  /**
   * Writes to the stdin of a process by its number; waits until the process has taken the bytes.
   * @throws TorporError `process_not_found`, `conflict` (its stdin is closed).
   */
  async writeStdin(pid: number, data: Uint8Array, eof: boolean, options: CallOptions = {}): Promise<void> {
    let at = 0;
    do {
      const piece = data.subarray(at, at + MAX_DATA_BYTES);
      at += piece.length;
      const value = create(WriteStdinSchema, { pid, data: piece, eof: eof && at === data.length });
      await this.#call({ case: "writeStdin", value }, { ...options, subject: "process", rules: exactly() });
    } while (at < data.length);
  }

  /** Describes one path; a symbolic link is described itself. @throws TorporError `file_not_found`. */
  async stat(path: string, options: FileOptions = {}): Promise<FileEntry> {
    const value = create(StatFileSchema, { path, user: options.user });
    return await this.#callForEntry({ case: "statFile", value }, options);
  }

  /**
   * Lists a directory, sorted by name.
   * @param options.depth 1: only its own entries.
   * @throws TorporError `file_not_found`, `file_precondition` (no directory), `output_too_large`.
   */
  async listDirectory(path: string, options: FileOptions & { depth?: number } = {}): Promise<FileEntry[]> {
    const value = create(ListDirectorySchema, { path, user: options.user, depth: options.depth ?? 1 });
    const rules = listing("fileEntry");
    const bodies = await this.#call({ case: "listDirectory", value }, { ...options, subject: "file", rules });
    return bodies.map((body) => take(body, "fileEntry"));
  }

  /**
   * Opens a file for reading. The body must be read to its end or cancelled.
   * @param options.offset, options.length bytes; length 0 or absent: to the end.
   * @throws TorporError `file_not_found`, `file_precondition` (a directory).
   */
  async readFile(
    path: string,
    options: FileOptions & { offset?: number; length?: number } = {},
  ): Promise<OpenedFile> {
    const { user, offset = 0, length = 0 } = options;
    const value = create(ReadFileSchema, { path, user, offset: BigInt(offset), length: BigInt(length) });
    const rules = fileContent();
    return await openFileStream(
      this.#streams.open({ case: "readFile", value }, { ...options, subject: "file", rules }),
    );
  }

  /**
   * Writes a file: readers see the old one or the whole new one. Missing parent directories are made.
   * @param options.mode permission bits; 0 or absent: an existing file keeps its own, a new one gets 0644.
   * @returns the file as written.
   * @throws TorporError `file_precondition` (a directory), and whatever `content` fails with.
   */
  async writeFile(
    path: string,
    content: Uint8Array | ReadableStream<Uint8Array>,
    options: FileOptions & { mode?: number } = {},
  ): Promise<FileEntry> {
    const value = create(WriteFileSchema, { path, user: options.user, mode: options.mode });
    const rules = exactly("fileEntry");
    const stream = this.#streams.open({ case: "writeFile", value }, { ...options, subject: "file", rules });
    return await sendFile(stream, content instanceof Uint8Array ? ReadableStream.from([content]) : content);
  }

  /**
   * Connects to a TCP port of the guest. The signal resets the connection, also when it is open.
   * @throws TorporError `port_closed`: nobody listens there.
   */
  async connectPort(port: number, options: CallOptions = {}): Promise<PortStream> {
    const value = create(ConnectPortSchema, { port, windowBytes: PORT_WINDOW_BYTES });
    const opening = { ...options, subject: "port", rules: portBytes(), toPort: true } as const;
    const request: GuestRequest = { case: "connectPort", value };
    return await PortStream.open(this.#streams.open(request, { ...opening, receiveBytes: PORT_WINDOW_BYTES }));
  }

  /** Makes a directory and its missing parents; one that exists is fine. */
  async makeDirectory(path: string, options: FileOptions = {}): Promise<void> {
    const value = create(MakeDirectorySchema, { path, user: options.user });
    await this.#call({ case: "makeDirectory", value }, { ...options, subject: "file", rules: exactly() });
  }

  /** Removes a file, or a directory when `recursive`. @throws TorporError `file_not_found`, `file_precondition`. */
  async removeFile(path: string, options: FileOptions & { recursive?: boolean } = {}): Promise<void> {
    const value = create(RemoveFileSchema, { path, user: options.user, recursive: options.recursive });
    await this.#call({ case: "removeFile", value }, { ...options, subject: "file", rules: exactly() });
  }

  /** Asks whether the agent answers. */
  async ping(options: CallOptions = {}): Promise<Pong> {
    const request: GuestRequest = { case: "ping", value: create(PingSchema) };
    return take(await this.#callForOne(request, "pong", options), "pong");
  }

  /** CPU, memory and disk use of the guest. */
  async metrics(options: CallOptions = {}): Promise<Metrics> {
    const request: GuestRequest = { case: "getMetrics", value: create(GetMetricsSchema) };
    return take(await this.#callForOne(request, "metrics", options), "metrics");
  }

  /**
   * Tells the guest what it must know when its vCPUs begin to run (again): see {@linkcode WakeCall}. The user's processes
   * stay frozen when an earlier step fails.
   */
  async wake(call: WakeCall, options: CallOptions & { sentUnixMs?: number } = {}): Promise<WakeResult> {
    const report = take(await this.#callForOne(wakeRequest(call), "wakeReport", options), "wakeReport");
    return { behindMs: Math.round(Number(report.behindNs) / 1e6), thawed: report.thawed };
  }

  /**
   * Lets the guest prepare for a pause. A step that fails or runs out of time is reported and stops no other.
   * @returns one report for each step that was asked for, in their order. When the signal aborts, the guest thaws.
   */
  async preparePause(steps: PauseSteps, options: CallOptions = {}): Promise<HookReport[]> {
    const request: GuestRequest = { case: "preparePause", value: create(PreparePauseSchema, steps) };
    const rules = atMost(PAUSE_STEPS, "hookReport");
    const bodies = await this.#call(request, { ...options, subject: "agent", rules, essential: true });
    return bodies.map((body) => take(body, "hookReport"));
  }

  /** Flushes the guest's file systems to its disks. */
  async sync(options: CallOptions = {}): Promise<void> {
    const request: GuestRequest = { case: "sync", value: create(SyncSchema) };
    await this.#call(request, { ...options, subject: "agent", rules: exactly(), essential: true });
  }

  /** Closes the connection; open requests fail with `reason`. Processes in the guest go on. */
  async close(reason: TorporError): Promise<void> {
    this.#closedFor ??= reason;
    await this[Symbol.asyncDispose]();
  }

  /** Closes the connection. Processes in the guest go on. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection.close();
    await this.closed;
  }

  #onFrame(frame: Frame, encodedBytes: number): void {
    if (frame.body.case === "helloReply") {
      // Only a Hello is answered so, and the newest one was answered before.
      throw protocolError("a second helloReply");
    }
    this.#streams.dispatch(frame, encodedBytes);
  }

  async #callForEntry(request: GuestRequest, options: FileOptions): Promise<FileEntry> {
    const rules = exactly("fileEntry");
    const bodies = await this.#call(request, { ...options, subject: "file", rules });
    return take(bodies[0]!, "fileEntry");
  }

  async #callForOne(request: GuestRequest, answer: EventCase, options: CallOptions & { sentUnixMs?: number }) {
    const rules = exactly(answer);
    return (await this.#call(request, { ...options, subject: "agent", rules, essential: true }))[0]!;
  }

  /** Sends a request and collects its events, which the rules have bounded. */
  async #call(request: GuestRequest, options: OpenOptions): Promise<FrameBody[]> {
    return await collect(this.#streams.open(request, options));
  }
}
