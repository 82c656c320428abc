import type { Client } from "@connectrpc/connect";
import { newId } from "@torpor/ids";
import type { HostAgentService } from "@torpor/proto/hostagent";
import type { Facts } from "../machine/messages.ts";
import type { HostAgent } from "./host_agent.ts";

/** Small: each byte of it is written and hashed under two layers of emulation. */
const MEMORY_MB = 192;
const EXEC_TIMEOUT_SEC = 600;

/** A question put to a KVM host. A scenario passes when `run` returns; what it returns is reported. */
export interface Scenario {
  name: string;
  run(lane: Lane): Promise<Facts>;
}

/** What a scenario works with: one host agent that all share. It leaves no sandbox behind. */
export class Lane {
  readonly agent: HostAgent;
  readonly #ids: string[] = [];

  constructor(agent: HostAgent) {
    this.agent = agent;
  }

  /** The host agent's contract. */
  get client(): Client<typeof HostAgentService> {
    return this.agent.client;
  }

  /** Boots a sandbox, or spawns it from a snapshot, and returns its id. */
  async create(options: { snapshotId?: string } = {}): Promise<string> {
    const sandboxId = newId();
    this.#ids.push(sandboxId);
    const size = options.snapshotId ? {} : { vcpus: 1, memoryMb: MEMORY_MB, diskSizeMb: 512 };
    const { accelerator } = await this.client.createSandbox({ sandboxId, ...size, ...options });
    if (accelerator !== "kvm") throw new Error(`the sandbox runs under ${accelerator}`);
    return sandboxId;
  }

  /** Runs a command line as root and returns its trimmed output; any other exit than 0 throws. */
  async exec(sandboxId: string, cmd: string): Promise<string> {
    const result = await this.client.exec({ sandboxId, cmd, user: "root", timeoutSec: EXEC_TIMEOUT_SEC });
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
    if (result.exitCode === 0) return text(result.stdout);
    const ending = result.timedOut ? "timed out" : `exit ${result.exitCode}`;
    throw new Error(`${ending}: ${cmd}\n${text(result.stdout)}\n${text(result.stderr)}`);
  }

  /** Destroys the sandboxes of this scenario. */
  async cleanUp(): Promise<void> {
    for (const sandboxId of this.#ids.splice(0)) await this.client.destroySandbox({ sandboxId });
  }
}

/** Runs `work` and tells how long it took, in whole milliseconds. */
export async function timed<T>(work: () => Promise<T>): Promise<[result: T, ms: number]> {
  const started = performance.now();
  const result = await work();
  return [result, Math.round(performance.now() - started)];
}
