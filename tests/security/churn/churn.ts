/**
 * Sandboxes come and go while agents and virtual machines are killed; afterwards there must be nothing that was not there before.
 */
import { eventually, type HostAgentProcess, makeTestHome, startHostAgentProcess } from "@torpor/testing/hostagent";
import { newId } from "@torpor/ids";
import { namesIn } from "../../../services/hostagent/storage/durable_file.ts";
import { Layout } from "../../../services/hostagent/storage/layout.ts";
import { Random } from "../../property/harness/random.ts";
import { type Ground, makeGround } from "../ground/mod.ts";
import { agentIdIn, leftovers, list, type Listed, type Listing } from "./listing.ts";
import { playRound, type RoundKind } from "./round.ts";

const MEMORY_MB = 128;
const DISK_MB = 256;
/** What ends in the background has this long. */
const SETTLE_MS = 30_000;
const POLL_MS = 250;

/** What a churn has come to. */
export interface ChurnReport {
  rounds: number;
  /** How many of each kind: what happened, and who was killed. */
  kinds: Record<string, number>;
  seed: number;
  /** One line each. */
  leaks: string[];
  /** Calls that failed though nobody was killed. */
  failures: string[];
}

/** Options of {@linkcode runChurn}. */
export interface ChurnOptions {
  rounds: number;
  seed: number;
  onRound?: (done: number, kind: RoundKind) => void;
  signal?: AbortSignal;
}

/** Plays rounds, one after the other, each with a real virtual machine. */
export async function runChurn({ rounds, seed, onRound, signal }: ChurnOptions): Promise<ChurnReport> {
  await using stack = new AsyncDisposableStack();
  const home = await makeTestHome();
  stack.defer(() => Deno.remove(home, { recursive: true }));
  const ground = stack.use(await makeGround());
  const churn = new Churn(ground, home);
  stack.use(churn);
  await churn.start();
  const report: ChurnReport = { rounds: 0, kinds: {}, seed, leaks: [], failures: [] };
  const random = new Random(seed);
  await churn.warmUp();
  const before = await churn.settled();
  for (let round = 0; round < rounds && !signal?.aborted; round++) {
    const kind = await playRound(churn, random, (failure) => report.failures.push(`round ${round}: ${failure}`));
    report.kinds[kind] = (report.kinds[kind] ?? 0) + 1;
    report.rounds++;
    onRound?.(report.rounds, kind);
  }
  await churn.warmUp();
  report.leaks = [...await churn.leaks(before)];
  report.leaks.push(...await churn.leaksOfTheEnd());
  return report;
}

/** A host agent that is killed and started again, with a snapshot to spawn from. */
export class Churn implements AsyncDisposable {
  agent!: HostAgentProcess;
  snapshotId = newId();
  #agentId = "";
  #before!: Listing;

  constructor(private readonly ground: Ground, readonly home: string) {}

  /** Starts the agent and makes the snapshot that sandboxes come from. */
  async start(): Promise<void> {
    await this.startAgent();
    const sandboxId = newId();
    const { client } = this.agent;
    await client.createSandbox({ sandboxId, vcpus: 1, memoryMb: MEMORY_MB, diskSizeMb: DISK_MB });
    this.#agentId = await agentIdIn(this.ground.agent);
    await client.createSnapshot({ sandboxId, snapshotId: this.snapshotId, name: "churn" });
    this.#before = { ...await this.#list(), ...NOTHING };
  }

  /** What an agent makes at its first pause and resume, such as a VMM that is started ahead, is there before and after. */
  async warmUp(): Promise<void> {
    const sandboxId = newId();
    const { client } = this.agent;
    await client.createSandbox({ sandboxId, snapshotId: this.snapshotId });
    await client.pauseSandbox({ sandboxId });
    await client.resumeSandbox({ sandboxId });
    await client.destroySandbox({ sandboxId });
    const { spares } = new Layout(this.home);
    await eventually(async () => (await namesIn(spares)).length > 0 ? true : undefined, "a VMM that is started ahead");
  }

  /** Starts an agent; the one before must have ended. */
  async startAgent(): Promise<void> {
    const env = { TORPOR_NETWORK: "on", TORPOR_NETWORK_POOL: "2" };
    this.agent = await startHostAgentProcess(this.home, { wrap: this.ground.agent.inside([]), env, spareVmm: true });
  }

  /** Kills the agent as it stands. */
  async killAgent(): Promise<void> {
    await this.agent.end("SIGKILL");
    await this.agent[Symbol.asyncDispose]();
  }

  /** What there is when two listings in a row are the same: pools are full, nothing is being removed. */
  async settled(): Promise<Listing> {
    let last = await this.#list();
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, 4 * POLL_MS));
      const now = await this.#list();
      const same = leftovers(last, now).length === 0 && leftovers(now, last).length === 0;
      if (same || performance.now() > deadline) return now;
      last = now;
    }
  }

  /** What is there now that `before` had not, once what ends in the background has ended. */
  async leaks(before: Listing): Promise<string[]> {
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      const left = leftovers(before, await this.#list());
      if (left.length === 0 || performance.now() > deadline) return left;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** What is there when the agent has destroyed all and ended. */
  async leaksOfTheEnd(): Promise<string[]> {
    await this.agent.client.terminate({});
    await this.agent.ended;
    this.#agentEnded = true;
    return await this.leaks(this.#before);
  }

  #agentEnded = false;

  async #list(): Promise<Listing> {
    const listed: Listed = { home: this.home, namespace: this.ground.agent, agentId: this.#agentId };
    return await list(this.#agentEnded ? listed : { ...listed, agentPid: this.agent.pid });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#agentEnded) await this.agent.client.terminate({}).catch((error) => console.error(String(error)));
    await this.agent[Symbol.asyncDispose]();
  }
}

/** Of an agent that has ended. */
const NOTHING: Listing = {
  devices: [],
  namespaces: [],
  routes: [],
  tables: [],
  rules: [],
  processes: [],
  cgroups: [],
  mounts: [],
  sandboxes: [],
  staging: [],
  spares: [],
  bases: [],
  descriptors: [],
};
