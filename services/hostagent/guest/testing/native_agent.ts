import { spawn } from "node:child_process";
import type { Duplex } from "node:stream";
import { fromFileUrl, join } from "@std/path";

const GUEST_DIRECTORY = fromFileUrl(new URL("../../../guest", import.meta.url));

/** The name of the account that tests run as: the only one that an unprivileged agent can become. */
export const TEST_USER = Deno.uid() === 0 ? "root" : Deno.env.get("USER") ?? "root";

/** The real guest agent as a program of this machine, behind a socket like that of a VMM's serial port. */
export interface NativeAgent extends AsyncDisposable {
  socketPath: string;
  /** An empty directory for the test's files. */
  directory: string;
  /** Cuts the host's connection; the agent notices nothing, as behind a virtio port. */
  disconnectHost(): void;
}

/** Builds (when something changed) and starts the agent. As with a VMM, one host connection at a time is served. */
export async function startNativeAgent(): Promise<NativeAgent> {
  const program = await buildNativeAgent();
  const directory = await Deno.makeTempDir({ prefix: "torpor-agent-" });
  const child = spawn(program, ["3"], { stdio: ["ignore", "inherit", "inherit", "pipe"] });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const port = child.stdio[3] as Duplex;
  const socketPath = join(directory, "agent.sock");
  const listener = Deno.listen({ transport: "unix", path: socketPath });
  const bridge = new Bridge(port, listener);
  const files = join(directory, "files");
  await Deno.mkdir(files);
  return {
    socketPath,
    directory: files,
    disconnectHost: () => bridge.disconnect(),
    async [Symbol.asyncDispose]() {
      await bridge.close();
      port.destroy(); // The native agent ends when its port hangs up.
      await exited;
      await Deno.remove(directory, { recursive: true });
    },
  };
}

/** Passes bytes between the agent's port and whoever is connected to the socket; without a host they are lost. */
class Bridge {
  #host: Deno.Conn | undefined;
  readonly #port: Duplex;
  readonly #listener: Deno.Listener;
  readonly #accepting: Promise<void>;
  readonly #reading: Promise<void>;

  constructor(port: Duplex, listener: Deno.Listener) {
    this.#port = port;
    this.#listener = listener;
    this.#accepting = this.#accept();
    this.#reading = this.#readPort();
  }

  disconnect(): void {
    this.#host?.close();
    this.#host = undefined;
  }

  async close(): Promise<void> {
    this.#listener.close();
    this.disconnect();
    this.#port.destroy();
    await Promise.all([this.#accepting, this.#reading]);
  }

  async #accept(): Promise<void> {
    for await (const host of this.#listener) {
      this.disconnect();
      this.#host = host;
      await this.#readHost(host);
    }
  }

  async #readHost(host: Deno.Conn): Promise<void> {
    const buffer = new Uint8Array(262_144);
    try {
      for (let count = await host.read(buffer); count !== null; count = await host.read(buffer)) {
        if (!this.#port.write(buffer.slice(0, count))) await drained(this.#port);
      }
    } catch (error) {
      if (this.#host === host) throw error;
    }
    if (this.#host === host) this.disconnect();
  }

  async #readPort(): Promise<void> {
    try {
      for await (const bytes of this.#port as AsyncIterable<Uint8Array>) await this.#toHost(bytes);
    } catch (error) {
      if (!this.#port.destroyed) throw error;
    }
  }

  async #toHost(bytes: Uint8Array): Promise<void> {
    const host = this.#host;
    try {
      for (let at = 0; host && at < bytes.length;) at += await host.write(bytes.subarray(at));
    } catch (error) {
      if (this.#host === host) throw error;
    }
  }
}

function drained(port: Duplex): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      port.off("drain", done).off("close", done);
      resolve();
    };
    port.on("drain", done).on("close", done);
  });
}

let built: Promise<string> | undefined;

function buildNativeAgent(): Promise<string> {
  return built ??= make();
}

async function make(): Promise<string> {
  const given = Deno.env.get("TORPOR_NATIVE_AGENT");
  if (given) return given;
  const output = await new Deno.Command("make", { args: ["--silent", "-C", GUEST_DIRECTORY, "native"] }).output();
  if (!output.success) throw new Error(`make native: ${new TextDecoder().decode(output.stderr)}`);
  return join(GUEST_DIRECTORY, "build", "torpor-agent-test");
}
