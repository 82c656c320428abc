import type { Client } from "@connectrpc/connect";
import { HostAgentService } from "@torpor/proto/hostagent";
import { openClient, type ServiceClient } from "@torpor/rpc";
import { CallRecord } from "./call_record.ts";
import { PATHS } from "./paths.ts";

const TOKEN = "kvm-lane";
/** Of one call. What takes 0.1 s on real hardware takes 10 s here, and a minute when the real machine is busy. */
const CALL_TIMEOUT_MS = 600_000;
/** See `scaledTimeoutMs`. */
const TIMEOUT_SCALE = "10";
/** Between two tries to reach an agent that is starting (it boots a guest first, to try KVM). */
const RETRY_MS = 250;

/** A host agent as it is deployed: a process of its own. Its client stays usable when it is started anew. */
export class HostAgent implements AsyncDisposable {
  readonly client: Client<typeof HostAgentService>;
  readonly calls = new CallRecord();
  readonly #connection: ServiceClient<typeof HostAgentService>;
  #child: Deno.ChildProcess | undefined;

  constructor() {
    const address = `unix:${PATHS.socket}`;
    this.#connection = openClient(HostAgentService, { address, token: TOKEN, timeoutMs: CALL_TIMEOUT_MS });
    this.client = this.calls.watch<Client<typeof HostAgentService>>(this.#connection);
  }

  /** Starts the process and waits until it serves. Throws when it ends first. */
  async start(): Promise<void> {
    await Deno.mkdir(PATHS.home, { recursive: true });
    const command = `exec ${PATHS.deno} run --quiet --allow-all ${PATHS.hostAgent} 2>> ${PATHS.agentLog}`;
    const child = this.#child = new Deno.Command("sh", {
      args: ["-c", command],
      env: {
        TORPOR_HOME: PATHS.home,
        TORPOR_CACHE: PATHS.cache,
        TORPOR_LIB_DIR: PATHS.native,
        TORPOR_LISTEN: `unix:${PATHS.socket}`,
        TORPOR_INTERNAL_TOKEN: TOKEN,
        TORPOR_TIMEOUT_SCALE: TIMEOUT_SCALE,
        // Started ahead for a resume that may come, it would take half of this machine from what is measured.
        TORPOR_SPARE_VMM: "off",
        TORPOR_NETWORK: "off",
      },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    let ended: Deno.CommandStatus | undefined;
    child.status.then((status) => ended = status);
    while (!await this.#serves()) {
      if (ended) throw new Error(`the host agent ended with ${ended.code} while it started; see hostagent.log`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** Sends a signal and waits for the end of the process. */
  async end(signal: Deno.Signal): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child) return;
    try {
      child.kill(signal);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // It has ended.
    }
    await child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
    this.#connection[Symbol.dispose]();
  }

  async #serves(): Promise<boolean> {
    try {
      await this.#connection.listSandboxes({});
      return true;
    } catch {
      // Refused, or no socket yet: whoever waits looks whether the process still lives.
      return false;
    }
  }
}

/** The fields of the last log line of the host agent with this event. */
export async function loggedEvent(event: string): Promise<Record<string, unknown> | undefined> {
  const lines = (await Deno.readTextFile(PATHS.agentLog)).split("\n").filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line)).findLast((line) => line.event === event);
}
