import { TorporError } from "@torpor/errors";
import { type Credentials, openClient, type ServiceClient } from "@torpor/rpc";
import { SchedulerService } from "@torpor/proto/scheduler";
import { log, untraced } from "@torpor/telemetry";
import { delay } from "./delay.ts";
import type { MachineCapacity } from "./machine.ts";

const FIRST_RETRY_MS = 200;
const LONGEST_RETRY_MS = 10_000;
const CALL_TIMEOUT_MS = 5_000;

/** What the scheduler is told about this host. */
export interface HostFacts {
  hostId: string;
  name: string;
  /** How the control plane reaches this agent. */
  address: string;
  capabilities: string[];
  labels: Record<string, string>;
  agentVersion: string;
  capacity(): Promise<MachineCapacity>;
  /** Nothing new should be placed here. */
  diskFull(): Promise<boolean>;
  /** Sandboxes here now. */
  counts(): { running: number; paused: number };
}

/** Where and how often. */
export interface RegistrationOptions {
  schedulerUrl: string;
  token?: string;
  /** Needed when the scheduler's address is `https:`. */
  credentials?: Credentials;
  /** The scheduler may ask for another interval. */
  heartbeatIntervalMs: number;
}

/**
 * Keeps this host known to the scheduler: registers, sends heartbeats, and registers again when it has been forgotten.
 * An unreachable scheduler is tried again with growing pauses; sandboxes work meanwhile.
 */
export class Registration implements AsyncDisposable {
  readonly #facts: HostFacts;
  readonly #client: ServiceClient<typeof SchedulerService>;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #intervalMs: number;

  constructor(facts: HostFacts, options: RegistrationOptions) {
    this.#facts = facts;
    this.#intervalMs = options.heartbeatIntervalMs;
    this.#client = openClient(SchedulerService, {
      address: options.schedulerUrl,
      token: options.token,
      credentials: options.credentials,
      timeoutMs: CALL_TIMEOUT_MS,
    });
    this.#running = untraced(() => this.#run());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    this.#client[Symbol.dispose]();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let registered = false;
    let retryMs = FIRST_RETRY_MS;
    while (!signal.aborted) {
      let waitMs = this.#intervalMs;
      try {
        if (registered) await this.#heartbeat(signal);
        else await this.#register(signal);
        if (!registered) log("info", "host_registered", { host_id: this.#facts.hostId });
        registered = true;
        retryMs = FIRST_RETRY_MS;
        waitMs = this.#intervalMs;
      } catch (error) {
        if (signal.aborted) break;
        log("warn", "scheduler_call_failed", { registered, retry_ms: retryMs }, error);
        // The scheduler's database is new, or has forgotten this host.
        if (error instanceof TorporError && error.httpStatus === 404) registered = false;
        waitMs = retryMs;
        retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
      }
      await delay(waitMs, signal).catch(() => {});
    }
  }

  async #register(signal: AbortSignal): Promise<void> {
    const { hostId, name, address, capabilities, labels, agentVersion } = this.#facts;
    const capacity = await this.#capacity();
    const diskFull = await this.#facts.diskFull();
    const request = { hostId, name, address, capacity, capabilities, labels, agentVersion, diskFull };
    const { heartbeatIntervalMs } = await this.#client.registerHost(request, { signal });
    if (heartbeatIntervalMs > 0) this.#intervalMs = Math.min(this.#intervalMs, heartbeatIntervalMs);
  }

  async #heartbeat(signal: AbortSignal): Promise<void> {
    const { running, paused } = this.#facts.counts();
    const capacity = await this.#capacity();
    const diskFull = await this.#facts.diskFull();
    await this.#client.heartbeat(
      { hostId: this.#facts.hostId, capacity, runningSandboxes: running, pausedSandboxes: paused, diskFull },
      { signal },
    );
  }

  async #capacity() {
    const { vcpus, memoryMb, diskMb } = await this.#facts.capacity();
    return { vcpus, memoryMb: BigInt(memoryMb), diskMb: BigInt(diskMb) };
  }
}
