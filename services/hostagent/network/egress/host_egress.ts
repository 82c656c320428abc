import type { Process } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";
import type { NetworkConfig } from "../types.ts";
import { ControlClient } from "./control_client.ts";
import type { CallBody, ProcessConfig } from "./control_messages.ts";
import { egressFiles, endProcess, findProcess, startProcess } from "./egress_process.ts";
import { egressUser } from "./egress_user.ts";
import { fingerprint } from "./fingerprint.ts";
import type { EgressProxy, EgressSlot, EgressStats } from "./types.ts";

/** From the start of the process until it listens; 0.2 s on an idle machine. */
const START_TIMEOUT_MS = 20_000;
const START_LOOK_MS = 10;
/** Between two attempts to start it anew. */
const RESTART_PAUSE_MS = 1000;

/** What the agent changes of a proxy for tests: the resolvers' ports. */
export type EgressConfig = Pick<NetworkConfig, "cidr" | "dns" | "egress">;

/**
 * Makes the egress proxy ready. Its process is started with the first rules (0.2 s on an idle machine, 50 MiB), unless an earlier
 * agent has left one: that is taken over, with its rules and open connections.
 * @param directory for the proxy's socket and its identity; below the data directory.
 */
export async function startEgressProxy(config: EgressConfig, directory: string): Promise<EgressProxy> {
  const parts = {
    socket: egressFiles(directory).socket,
    uid: egressUser(),
    httpPort: config.egress.httpPort,
    tlsPort: config.egress.tlsPort,
    resolvers: config.dns,
    refusedRanges: [config.cidr],
  };
  const egress = new HostEgress(directory, { ...parts, fingerprint: await fingerprint(parts) });
  await egress.open();
  return egress;
}

/** Ends the proxy of an earlier agent, if there is one: for an agent whose sandboxes have no network. */
export async function endEgressProxy(directory: string): Promise<void> {
  await endProcess(directory, await findProcess(directory));
}

/** A process and the conversation with it. */
interface Running {
  process: Process;
  client: ControlClient;
  /** Slots that had rules when it was taken over. */
  slotAddresses: string[];
}

class HostEgress implements EgressProxy {
  readonly #directory: string;
  readonly #config: ProcessConfig;
  /** What is to be in force; a process that is started anew gets all of it. */
  readonly #rules = new Map<string, { slot: EgressSlot; domains: readonly string[] }>();
  /** Slots that may have rules of an earlier agent. */
  #inherited = new Set<string>();
  #running: Running | undefined;
  #closed = false;
  /** What is done with the process is done one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  #restart: ReturnType<typeof setTimeout> | undefined;

  constructor(directory: string, config: ProcessConfig) {
    this.#directory = directory;
    this.#config = config;
  }

  async open(): Promise<void> {
    await this.#inTurn(async () => {
      const running = await this.#takeOver();
      this.#inherited = new Set(running?.slotAddresses);
    });
  }

  async setRules(slot: EgressSlot, domains: readonly string[] | undefined): Promise<void> {
    const { slotAddress } = slot;
    if (!domains?.length && !this.#rules.has(slotAddress) && !this.#inherited.has(slotAddress)) return;
    await this.#inTurn(async () => {
      if (domains?.length) this.#rules.set(slotAddress, { slot, domains: [...domains] });
      else this.#rules.delete(slotAddress);
      if (domains?.length || this.#running) {
        await this.#call({ call: "set_rules", slot: pick(slot), domains: [...domains ?? []] });
      }
      this.#inherited.delete(slotAddress);
    });
  }

  async retain(slotAddresses: Iterable<string>): Promise<void> {
    const kept = new Set(slotAddresses);
    await this.#inTurn(async () => {
      for (const address of this.#rules.keys()) if (!kept.has(address)) this.#rules.delete(address);
      if (this.#running) await this.#call({ call: "retain", slotAddresses: [...kept] });
      this.#inherited = this.#inherited.intersection(kept);
    });
  }

  async stats(): Promise<EgressStats> {
    return await this.#inTurn(async () => {
      if (!this.#running) return { pid: undefined, slots: 0, connections: 0, outcomes: {} };
      const { pid } = this.#running.process;
      const reply = await this.#call({ call: "stats" });
      if (reply.message !== "stats") throw unavailable(new Error(reply.message));
      const { slots, connections, outcomes } = reply;
      return { pid, slots, connections, outcomes };
    });
  }

  async close({ keep }: { keep: boolean }): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#restart);
    await this.#inTurn(async () => {
      const running = this.#running;
      this.#running = undefined;
      await running?.client[Symbol.asyncDispose]();
      if (keep) await running?.process.release();
      else await endProcess(this.#directory, running?.process);
    });
  }

  /** @throws TorporError `unavailable`. A process that does not answer is killed: what it lets through is unknown. */
  async #call(body: CallBody) {
    const running = await this.#ensure();
    let reply;
    try {
      reply = await running.client.call(body);
    } catch (error) {
      await this.#drop(running);
      throw error;
    }
    if (reply.message === "failed") throw unavailable(new Error(reply.error));
    return reply;
  }

  async #ensure(): Promise<Running> {
    return this.#running ?? await this.#start();
  }

  /** The process that an earlier agent has left, when this one would have started the same. */
  async #takeOver(): Promise<Running | undefined> {
    const process = await findProcess(this.#directory);
    if (!process) return undefined;
    let client: ControlClient | undefined;
    try {
      client = await ControlClient.connect(this.#config.socket);
      const hello = await client.hello();
      if (hello.fingerprint === this.#config.fingerprint) return this.#watch(process, client, hello.slotAddresses);
      log("info", "egress_replaced", { pid: process.pid });
    } catch (error) {
      log("warn", "egress_not_taken_over", { pid: process.pid }, error);
    }
    await client?.[Symbol.asyncDispose]();
    await endProcess(this.#directory, process);
    return undefined;
  }

  /** Starts a process and gives it all rules. */
  async #start(): Promise<Running> {
    if (this.#closed) throw unavailable(new Error("closed"));
    const process = await startProcess(this.#directory, this.#config);
    let client: ControlClient | undefined;
    try {
      client = await connectWhenReady(process, this.#config.socket);
      await client.hello();
      for (const { slot, domains } of this.#rules.values()) await restoreRules(client, slot, domains);
    } catch (error) {
      await client?.[Symbol.asyncDispose]();
      await endProcess(this.#directory, process);
      throw error;
    }
    this.#inherited.clear();
    log("info", "egress_started", { pid: process.pid });
    return this.#watch(process, client, []);
  }

  #watch(process: Process, client: ControlClient, slotAddresses: string[]): Running {
    const running = { process, client, slotAddresses };
    this.#running = running;
    client.ended.then(() => {
      if (this.#running !== running || this.#closed) return;
      log("error", "egress_lost", { pid: process.pid, hint: `see ${egressFiles(this.#directory).log}` });
      this.#inTurn(() => this.#drop(running)).catch((error) => log("error", "egress_not_ended", {}, error));
    });
    return running;
  }

  /** Sandboxes reach nothing by name until there is a process again. */
  #restartAfter(ms: number): void {
    clearTimeout(this.#restart);
    this.#restart = setTimeout(() => {
      this.#inTurn(async () => {
        if (!this.#closed && this.#rules.size > 0) await this.#ensure();
      }).catch((error) => {
        log("error", "egress_not_restarted", {}, error);
        if (!this.#closed) this.#restartAfter(RESTART_PAUSE_MS);
      });
    }, ms);
  }

  /** Kills the process, if it is still the one; another one follows. */
  async #drop(running: Running): Promise<void> {
    if (this.#running !== running) return;
    this.#running = undefined;
    await endProcess(this.#directory, running.process);
    await running.client[Symbol.asyncDispose]();
    if (!this.#closed) this.#restartAfter(0);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.catch(() => {}).then(work);
    this.#last = result;
    return result;
  }
}

/** A slot may have gone meanwhile: then it has no rules. */
async function restoreRules(client: ControlClient, slot: EgressSlot, domains: readonly string[]): Promise<void> {
  const reply = await client.call({ call: "set_rules", slot: pick(slot), domains: [...domains] });
  if (reply.message === "failed") {
    log("warn", "egress_rules_not_restored", { slot: slot.slotAddress, error: reply.error });
  }
}

async function connectWhenReady(process: Process, socket: string): Promise<ControlClient> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  const ended = process.exited.then((status) =>
    unavailable(new Error(`the process has ended: ${JSON.stringify(status)}`))
  );
  for (;;) {
    try {
      return await ControlClient.connect(socket);
    } catch (error) {
      const early = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused;
      if (!early || performance.now() > deadline) throw unavailable(error);
    }
    const pause = Promise.withResolvers<undefined>();
    const timer = setTimeout(pause.resolve, START_LOOK_MS, undefined);
    const over = await Promise.race([ended, pause.promise]);
    clearTimeout(timer);
    if (over) throw over;
  }
}

function pick({ hostAddress, slotAddress }: EgressSlot): EgressSlot {
  return { hostAddress, slotAddress };
}

function unavailable(cause: unknown): TorporError {
  return new TorporError("unavailable", "the egress proxy does not do what it is asked", { cause });
}
