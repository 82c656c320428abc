import { log } from "@torpor/telemetry";
import { delay } from "../../host/delay.ts";

/** The console keeps at least this much of what the guest printed last, and at most twice as much. */
const KEEP_BYTES = 256 * 1024;

/** What a guest prints faster than this, after as much at once as the console keeps, is left out. */
const BYTES_PER_SECOND = 64 * 1024;
/** Between two reads: a guest that prints byte by byte, without end, costs the agent a hundred reads a second. */
const READ_INTERVAL_MS = 10;

/**
 * Copies a guest's serial console to a file that never grows beyond a limit, and takes little of the agent's time: the guest decides
 * how much it prints.
 */
export class ConsoleLog implements AsyncDisposable {
  readonly #connection: Deno.UnixConn;
  readonly #path: string;
  readonly #copying: Promise<void>;
  #file: Deno.FsFile;
  #bytes: number;
  /** Bytes that may be written now. */
  #allowance = KEEP_BYTES;
  #allowedAtMs = performance.now();
  #leftOut = 0;
  /** Nobody waits for what comes any more, but for the end. */
  readonly #ending = new AbortController();

  private constructor(connection: Deno.UnixConn, path: string, file: Deno.FsFile, bytes: number) {
    this.#connection = connection;
    this.#path = path;
    this.#file = file;
    this.#bytes = bytes;
    this.#copying = this.#copy();
  }

  /** Connects to the console socket of a VMM that listens already and appends to `path` (and `path`.1). */
  static async open(socketPath: string, path: string): Promise<ConsoleLog> {
    const connection = await Deno.connect({ transport: "unix", path: socketPath });
    try {
      const file = await Deno.open(path, { append: true, create: true, mode: 0o600 });
      return new ConsoleLog(connection, path, file, (await file.stat()).size);
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** Resolves when the VMM has ended and its last words are in the file. */
  get drained(): Promise<void> {
    this.#ending.abort();
    return this.#copying;
  }

  /** Stops copying; what was not read yet is lost. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    try {
      this.#connection.close();
    } catch (error) {
      // The copying end has closed it already, after the VMM had.
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
    await this.#copying;
    this.#file.close();
  }

  async #copy(): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    try {
      for (let got = 0; (got = await this.#connection.read(buffer) ?? 0) > 0;) {
        await this.#appendAllowed(buffer.subarray(0, got));
        await this.#pause();
      }
      await this.#noteLeftOut();
      this.#connection.close();
    } catch (error) {
      const ended = error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted ||
        error instanceof Deno.errors.ConnectionReset;
      // Without its console log a sandbox still works.
      if (!ended) log("warn", "console_log_failed", { path: this.#path }, error);
    }
  }

  async #pause(): Promise<void> {
    try {
      await delay(READ_INTERVAL_MS, this.#ending.signal);
    } catch {
      // The end is near: what is left is read at once.
    }
  }

  async #appendAllowed(bytes: Uint8Array): Promise<void> {
    const nowMs = performance.now();
    const gained = (nowMs - this.#allowedAtMs) / 1000 * BYTES_PER_SECOND;
    this.#allowance = Math.min(this.#allowance + gained, KEEP_BYTES);
    this.#allowedAtMs = nowMs;
    if (bytes.length > this.#allowance) {
      this.#leftOut += bytes.length;
      return;
    }
    this.#allowance -= bytes.length;
    await this.#noteLeftOut();
    await this.#append(bytes);
  }

  async #noteLeftOut(): Promise<void> {
    if (this.#leftOut === 0) return;
    const note = `\n[${this.#leftOut} bytes that came too fast are left out]\n`;
    this.#leftOut = 0;
    await this.#append(new TextEncoder().encode(note));
  }

  async #append(bytes: Uint8Array): Promise<void> {
    if (this.#bytes + bytes.length > KEEP_BYTES) {
      await Deno.rename(this.#path, `${this.#path}.1`);
      this.#file.close();
      this.#file = await Deno.open(this.#path, { append: true, create: true, mode: 0o600 });
      this.#bytes = 0;
    }
    for (let done = 0; done < bytes.length;) done += await this.#file.write(bytes.subarray(done));
    this.#bytes += bytes.length;
  }
}
