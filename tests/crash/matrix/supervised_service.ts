import { join } from "@std/path";
import { openAddressFetch, parseAddress } from "@torpor/rpc";
import type { ServiceName } from "./crash_point.ts";

const PROGRAM = new URL("./service.ts", import.meta.url).pathname;

/** How long a service may take until it serves again, ms. */
const START_TIMEOUT_MS = 60_000;

/** A service that is started again whenever it ends, as by a service manager. */
export class SupervisedService implements AsyncDisposable {
  readonly address: string;
  readonly #fetch;
  #child: Deno.ChildProcess | undefined;
  #stopping = false;
  #running: Promise<void>;

  /** @param env of the service, beside what all services of a deployment have in common. */
  constructor(
    private readonly name: ServiceName,
    private readonly directory: string,
    private readonly env: Record<string, string>,
  ) {
    this.address = `unix:${join(directory, `${name}.sock`)}`;
    this.#fetch = openAddressFetch(parseAddress(this.address));
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      const log = await Deno.open(join(this.directory, `${this.name}.log`), { create: true, append: true });
      this.#child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--allow-all", "--no-check", "--quiet", PROGRAM, this.name, this.directory],
        env: { ...this.env, TORPOR_LISTEN: this.address, OTEL_SERVICE_NAME: this.name },
        stdin: "null",
        stdout: "null",
        stderr: "piped",
      }).spawn();
      await this.#child.stderr.pipeTo(log.writable);
      await this.#child.status;
    }
  }

  /** Of the process that runs now. */
  async pid(): Promise<number> {
    return Number(await Deno.readTextFile(join(this.directory, `${this.name}.pid`)));
  }

  /** Waits until it serves and can do its work. */
  async ready(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!await this.#answers()) {
      if (performance.now() > deadline) throw new Error(`${this.name} does not serve: see ${this.directory}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async #answers(): Promise<boolean> {
    try {
      const response = await this.#fetch.fetch(`${this.#fetch.baseUrl}/readyz`, { signal: AbortSignal.timeout(5_000) });
      await response.body?.cancel();
      return response.ok;
    } catch {
      return false;
    }
  }

  /** Ends it for good. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true;
    try {
      this.#child?.kill("SIGTERM");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // It has ended.
    }
    await this.#running;
    this.#fetch[Symbol.dispose]();
  }
}
