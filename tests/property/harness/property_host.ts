import { newId } from "@torpor/ids";
import type { HostAgentService } from "@torpor/proto/hostagent";
import { formatAddress, type ServiceClient } from "@torpor/rpc";
import { makeTestHome, openTestClient, testInstallation } from "@torpor/testing/hostagent";
import type { TrackingMethod } from "../../../services/hostagent/memory/tracking/method.ts";
import type { SandboxManager } from "../../../services/hostagent/sandbox/manager.ts";
import { type RunningHostAgent, startHostAgent } from "../../../services/hostagent/start.ts";
import { Layout } from "../../../services/hostagent/storage/layout.ts";
import { UserDriver } from "./user_driver.ts";

const CONTENT_HASH = "0".repeat(32);

/** Of a size that small VMs reach. */
const COMPACTION_LIMITS = { liveShare: 0.7, minSavedBytes: 64 * 1024, maxSources: 3 };
const DISK_MB = 4;

/** How a chain's host differs from others. */
export interface PropertyHostOptions {
  /** The compiled user_vmm. */
  program: string;
  tracking: TrackingMethod;
  /** Sandboxes that are spawned share what they do not write; default true. */
  sharedBase?: boolean;
  /** Damages something at the begin of each step, to see that the chain notices. */
  sabotage?: Sabotage;
  /** The data directory is a small file system of its own, which a test can fill. */
  smallDisk?: boolean;
}

/** See {@linkcode PropertyHostOptions.sabotage}. @param step as in `HostContext.onStep`. */
export type Sabotage = (host: PropertyHost, step: string, sandboxId: string) => Promise<void>;

/** A real host agent with a data directory of its own, whose VMs are {@linkcode UserDriver}'s. */
export class PropertyHost implements AsyncDisposable {
  readonly layout: Layout;
  readonly driver: UserDriver;
  /** A step whose begin throws, while it is set. */
  failAt: string | undefined;
  /** Called at the begin of each step while it is set. */
  sabotage: ((step: string) => Promise<void>) | undefined;
  readonly #options: PropertyHostOptions;
  #agent: RunningHostAgent | undefined;
  #client: ServiceClient<typeof HostAgentService> | undefined;

  private constructor(home: string, options: PropertyHostOptions) {
    this.layout = new Layout(home, `${home}/cache`);
    this.driver = new UserDriver(options.program);
    this.#options = options;
  }

  /** Starts a host agent on a new data directory. */
  static async start(options: PropertyHostOptions): Promise<PropertyHost> {
    const home = await makeTestHome();
    if (options.smallDisk) await run("mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", home);
    const host = new PropertyHost(home, options);
    await host.#writeImages();
    await host.#start();
    return host;
  }

  get manager(): SandboxManager {
    return this.#agent!.manager;
  }

  /** For what does not need sizes that only a test has. */
  get client(): ServiceClient<typeof HostAgentService> {
    return this.#client!;
  }

  /** Boots a sandbox. @returns its id. */
  async create(memoryMb: number): Promise<string> {
    const call = this.call(newId());
    const from = { template: "base", vcpus: 1, memoryMb, diskSizeMb: DISK_MB };
    await this.manager.create(call, { from, timeoutSec: 0, env: {} });
    return call.sandboxId;
  }

  /** Spawns a sandbox from a kept snapshot. */
  async spawn(sandboxId: string, snapshotId: string): Promise<void> {
    const from = { snapshotId, template: "", vcpus: 0, memoryMb: 0, diskSizeMb: 0 };
    await this.manager.create(this.call(sandboxId), { from, timeoutSec: 0, env: {} });
  }

  /** The start of each lifecycle call. */
  call(sandboxId: string): { sandboxId: string; operationId: string; version: number } {
    return { sandboxId, operationId: newId(), version: 0 };
  }

  /** Stops the agent, which pauses what runs, and starts another one on the same directory. */
  async restart(): Promise<void> {
    await this.#stop();
    await this.#start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent?.manager.destroyAll();
    await this.#stop();
    if (this.#options.smallDisk) await run("umount", this.layout.home);
    await Deno.remove(this.layout.home, { recursive: true });
  }

  async #stop(): Promise<void> {
    this.#client?.[Symbol.dispose]();
    await this.#agent?.[Symbol.asyncDispose]();
  }

  async #start(): Promise<void> {
    const { home, cache } = this.layout;
    const config = {
      home,
      cache,
      nativeDirectory: testInstallation().nativeDirectory,
      listen: `unix:${home}/agent.sock`,
      schedulerUrl: undefined,
      heartbeatIntervalMs: 60_000,
      spareVmm: false,
      prefetch: true,
      sharedBase: this.#options.sharedBase,
    };
    this.#agent = await startHostAgent(config, {
      driver: this.driver,
      tracking: this.#options.tracking,
      compactionLimits: COMPACTION_LIMITS,
      onStep: async (step, sandboxId) => {
        await this.#options.sabotage?.(this, step, sandboxId);
        await this.sabotage?.(step);
        if (step === this.failAt) throw new Deno.errors.PermissionDenied(`injected at ${step}`);
      },
    });
    this.#client = openTestClient(formatAddress(this.#agent.address));
  }

  /** These VMs boot nothing, so the images only need to have names. */
  async #writeImages(): Promise<void> {
    const { cache, images } = this.layout;
    await Deno.mkdir(cache, { recursive: true });
    const image = { hash: CONTENT_HASH, path: "none" };
    const manifest = { schema: 1, content_hash: CONTENT_HASH, kernel: image, initramfs: image, base: image };
    await Deno.writeTextFile(images, JSON.stringify(manifest));
  }
}

async function run(program: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(program, { args, stdin: "null" }).output();
  if (!success) throw new Error(`${program}: ${new TextDecoder().decode(stderr)}`);
}
