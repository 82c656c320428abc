import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { TorporError } from "@torpor/errors";
import {
  type CreateSandboxRequestSchema,
  type ExecRequestSchema,
  type ListSandboxesRequestSchema,
  type Sandbox as SandboxMessage,
  SandboxState,
  type Snapshot,
} from "@torpor/proto/torpor";
import { Connection, type ConnectionOptions } from "./connection.ts";
import { Files } from "./files.ts";
import { type AttachOptions, Process, type ProcessResult } from "./process.ts";

type Init<Schema extends DescMessage> = Omit<MessageInitShape<Schema>, "$typeName" | "$unknown">;

/** What a sandbox is made of: the fields of CreateSandbox, and where to make it. */
export interface CreateOptions extends Init<typeof CreateSandboxRequestSchema>, ConnectionOptions {
  /** What the end of its scope does to it (`await using`). Default "delete". */
  onDispose?: "delete" | "pause" | "keep";
}

/** How a command is run. */
export interface ExecOptions {
  /** Makes `cmd` a program instead of a command line for the login shell. */
  args?: string[];
  env?: Record<string, string>;
  /** Default: the user's home. */
  workingDirectory?: string;
  /** Default "user". */
  user?: string;
  /** What it reads from stdin; text as UTF-8. */
  stdin?: Uint8Array | string;
  /** Seconds after which it is killed. Default: 30 of `exec`, none of `start`. */
  timeoutSec?: number;
}

/** A command that has ended, with its output (at most 64 MiB each). */
export interface ExecResult extends ProcessResult {
  stdout: string;
  stderr: string;
  /** The bytes of `stdout`, which may be no UTF-8. */
  stdoutBytes: Uint8Array;
  stderrBytes: Uint8Array;
  pid: number;
}

/** Options of {@linkcode Sandbox.list}. */
export interface ListOptions extends Init<typeof ListSandboxesRequestSchema>, ConnectionOptions {}

/**
 * A microVM that sleeps and wakes. Errors of all methods are TorporErrors: branch on `code`.
 *
 *     await using sandbox = await Sandbox.create({ memoryMb: 512 });
 *     console.log((await sandbox.exec("uname -a")).stdout);
 */
export class Sandbox implements AsyncDisposable {
  readonly id: string;
  readonly files: Files;
  /** The generated clients, for what has no method here. */
  readonly connection: Connection;
  #onDispose: "delete" | "pause" | "keep";

  private constructor(connection: Connection, id: string, onDispose: "delete" | "pause" | "keep") {
    this.connection = connection;
    this.id = id;
    this.files = new Files(connection, id);
    this.#onDispose = onDispose;
  }

  /**
   * Makes a sandbox and waits until it runs; with `snapshot`, it goes on where that was taken.
   * @throws TorporError `no_capacity`, `quota_exceeded`, `invalid_argument` (with `field`), `template_not_found`.
   */
  static async create(options: CreateOptions = {}): Promise<Sandbox> {
    const { url, apiKey, timeoutMs, fetch, onDispose = "delete", ...request } = options;
    const connection = new Connection({ url, apiKey, timeoutMs, fetch });
    const { sandbox } = await connection.sandboxes.createSandbox(request);
    return new Sandbox(connection, sandbox!.sandboxId, onDispose);
  }

  /** A sandbox that exists; it is not touched, and stays at the end of its scope. @throws TorporError `sandbox_not_found`. */
  static async connect(id: string, options: ConnectionOptions = {}): Promise<Sandbox> {
    const connection = new Connection(options);
    await connection.sandboxes.getSandbox({ sandboxId: id });
    return new Sandbox(connection, id, "keep");
  }

  /** Facts about all sandboxes of the team that match, newest first. */
  static async *list(options: ListOptions = {}): AsyncGenerator<SandboxMessage> {
    const { url, apiKey, timeoutMs, fetch, ...request } = options;
    const connection = new Connection({ url, apiKey, timeoutMs, fetch });
    let cursor = request.cursor ?? "";
    do {
      const page = await connection.sandboxes.listSandboxes({ ...request, cursor });
      yield* page.sandboxes;
      cursor = page.nextCursor;
    } while (cursor !== "");
  }

  /** As it is now. */
  async info(): Promise<SandboxMessage> {
    return (await this.connection.sandboxes.getSandbox({ sandboxId: this.id })).sandbox!;
  }

  /** Whether it runs now. */
  async isRunning(): Promise<boolean> {
    return (await this.info()).state === SandboxState.RUNNING;
  }

  /**
   * Runs a command to its end. Another exit code than 0 is no error.
   * @throws TorporError `output_too_large`, `sandbox_paused`, `file_not_found` (of a program).
   */
  async exec(cmd: string, options: ExecOptions = {}): Promise<ExecResult> {
    const { stdout, stderr, exitCode, signal, timedOut, pid } = await this.connection.sandboxes.exec(
      this.#execRequest(cmd, options),
    );
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    const output = { stdout: text(stdout), stderr: text(stderr), stdoutBytes: stdout, stderrBytes: stderr };
    return { ...output, exitCode, signal, timedOut, pid };
  }

  /** Starts a command whose output is read as it comes. `stdin: true` keeps stdin open for {@linkcode Process.write}. */
  start(cmd: string, options: Omit<ExecOptions, "stdin"> & { stdin?: ExecOptions["stdin"] | true } = {}): Process {
    const { stdin, ...others } = options;
    const request = {
      ...this.#execRequest(cmd, { ...others, stdin: stdin === true ? undefined : stdin }),
      keepStdinOpen: stdin === true,
    };
    return new Process(this.connection, this.id, () => this.connection.sandboxes.execStream(request));
  }

  /** Follows a process that runs, or has ended lately: its output from the oldest that is kept. */
  attach(pid: number, options: AttachOptions = {}): Process {
    const request = { sandboxId: this.id, pid, ...options, holdBack: true };
    return new Process(this.connection, this.id, () => this.connection.sandboxes.attachProcess(request));
  }

  /** Saves memory and processes to disk and frees the VM. Repeats are fine. */
  async pause(): Promise<void> {
    await this.connection.sandboxes.pauseSandbox({ sandboxId: this.id });
  }

  /** Brings it back where it was. A running one is left as it is. */
  async resume(): Promise<void> {
    await this.connection.sandboxes.resumeSandbox({ sandboxId: this.id });
  }

  /** Makes sandboxes that go on where this one is; it goes on, too. All or none. `count` is 1 to 32, default 1. */
  async fork(count = 1): Promise<Sandbox[]> {
    const { children } = await this.connection.sandboxes.forkSandbox({ sandboxId: this.id, count });
    return children.map(({ sandboxId }) => new Sandbox(this.connection, sandboxId, this.#onDispose));
  }

  /** Takes a named snapshot, from which {@linkcode Sandbox.create} spawns. It goes on as it was. */
  async snapshot(name: string, options: { expiresInSec?: number } = {}): Promise<Snapshot> {
    const request = { sandboxId: this.id, name, ...options };
    return (await this.connection.snapshots.createSnapshot(request)).snapshot!;
  }

  /** Deletes it and what only it has stored. Repeats are fine. */
  async delete(): Promise<void> {
    try {
      await this.connection.sandboxes.deleteSandbox({ sandboxId: this.id });
    } catch (thrown) {
      if (!(thrown instanceof TorporError && thrown.code === "sandbox_not_found")) throw thrown;
    }
  }

  /** What `onDispose` says. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#onDispose === "delete") await this.delete();
    else if (this.#onDispose === "pause") await this.pause();
  }

  #execRequest(cmd: string, options: ExecOptions): Init<typeof ExecRequestSchema> {
    const { stdin, ...others } = options;
    const bytes = typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin;
    return { sandboxId: this.id, cmd, ...others, ...(bytes && { stdin: bytes }) };
  }
}
