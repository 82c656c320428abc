import { homePaths, torporHome } from "@torpor/config";
import { nativeFiles } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import { HostAgentService } from "@torpor/proto/hostagent";
import { formatAddress, openClient, type ServiceClient } from "@torpor/rpc";
import type { NetworkSettings } from "../../services/hostagent/network/mod.ts";
import { type HostOverrides, type RunningHostAgent, startHostAgent } from "../../services/hostagent/start.ts";
import { Layout } from "../../services/hostagent/storage/layout.ts";
import type { DiskLimits } from "../../services/hostagent/vmm/qemu/command_line.ts";

const TOKEN = "test-internal-token";
/** A boot under TCG on a loaded machine; a memory export of a few hundred MiB. */
const CALL_TIMEOUT_MS = 240_000;

/** Options of {@linkcode startTestHostAgent}. */
export interface TestHostAgentOptions {
  /** An existing data directory, which is then kept; default: a new one that is removed at the end. */
  home?: string;
  schedulerUrl?: string;
  /** Default false, so that a test knows which processes there are. */
  spareVmm?: boolean;
  /** Default true. */
  sharedBase?: boolean;
  /** Default 0: snapshots are only verified when asked. */
  verifyIntervalMs?: number;
  /** Default 0. */
  diskReserveMb?: number;
  /** Default: guests have no network. The process must then be in a network namespace of the test's. */
  network?: NetworkSettings;
  /** Default: none. */
  diskLimits?: DiskLimits;
  overrides?: HostOverrides;
}

/** A host agent in this process, with real VMs. Disposing it destroys its sandboxes. */
export interface TestHostAgent extends AsyncDisposable {
  agent: RunningHostAgent;
  client: ServiceClient<typeof HostAgentService>;
  layout: Layout;
  /** Boots a small sandbox and returns its id. */
  create(options?: Partial<{ memoryMb: number; timeoutSec: number; env: Record<string, string> }>): Promise<string>;
  /** Runs a command line as root in the guest and returns its trimmed output; any other exit than 0 throws. */
  run(sandboxId: string, command: string): Promise<string>;
}

/** The images and native files of this machine, as `./torpor up` or `./torpor test` has built them. */
export function testInstallation(): { cache: string; nativeDirectory: string } {
  return { cache: homePaths(torporHome()).cache, nativeDirectory: nativeFiles().library.replace(/\/[^/]+$/, "") };
}

/** A new data directory whose path is short enough for unix sockets. */
export async function makeTestHome(): Promise<string> {
  return await Deno.makeTempDir({ dir: "/tmp", prefix: "torpor-" });
}

/** Starts a host agent in this process. */
export async function startTestHostAgent(options: TestHostAgentOptions = {}): Promise<TestHostAgent> {
  const home = options.home ?? await makeTestHome();
  const agent = await startHostAgent({
    home,
    ...testInstallation(),
    listen: `unix:${home}/agent.sock`,
    internalToken: TOKEN,
    schedulerUrl: options.schedulerUrl,
    heartbeatIntervalMs: 200,
    spareVmm: options.spareVmm ?? false,
    sharedBase: options.sharedBase,
    verifyIntervalMs: options.verifyIntervalMs,
    diskReserveMb: options.diskReserveMb,
    diskLimits: options.diskLimits,
    network: options.network,
    prefetch: true,
  }, options.overrides);
  const client = openTestClient(formatAddress(agent.address));
  return {
    agent,
    client,
    layout: new Layout(home, testInstallation().cache),
    ...sandboxHelpers(client),
    async [Symbol.asyncDispose]() {
      if (!options.home) await agent.manager.destroyAll();
      client[Symbol.dispose]();
      await agent[Symbol.asyncDispose]();
      if (!options.home) await Deno.remove(home, { recursive: true });
    },
  };
}

/** A client of a host agent that a test has started. */
export function openTestClient(address: string): ServiceClient<typeof HostAgentService> {
  return openClient(HostAgentService, { address, token: TOKEN, timeoutMs: CALL_TIMEOUT_MS });
}

/** `create` and `run` of {@linkcode TestHostAgent} over any client. */
export function sandboxHelpers(client: ServiceClient<typeof HostAgentService>): Pick<TestHostAgent, "create" | "run"> {
  return {
    async create({ memoryMb = 192, timeoutSec = 0, env = {} } = {}) {
      const request = { sandboxId: newId(), vcpus: 1, memoryMb, diskSizeMb: 512, timeoutSec, env };
      return (await client.createSandbox(request)).sandboxId;
    },
    async run(sandboxId, cmd) {
      const result = await client.exec({ sandboxId, cmd, user: "root", timeoutSec: 120 });
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
      if (result.exitCode === 0) return text(result.stdout);
      throw new Error(`exit ${result.exitCode} of ${cmd}: ${text(result.stderr)}`);
    },
  };
}

/** A host agent in a process of its own, which can be killed. */
export interface HostAgentProcess extends AsyncDisposable {
  pid: number;
  client: ServiceClient<typeof HostAgentService>;
  /** Sends a signal and waits for the end. */
  end(signal: Deno.Signal): Promise<void>;
  /** Resolves when it has ended. */
  ended: Promise<Deno.CommandStatus>;
}

/**
 * Starts a host agent in a process of its own and waits until it serves.
 * @param options.crashAt a step (see `HostContext.onStep`) at whose begin the process kills itself with SIGKILL.
 * @param options.waitAt a step at whose begin it waits: `gate` is a directory with two FIFOs, `reached`, which can be read
 *   then, and `go`, whose content it reads before it goes on.
 * @param options.wrap a command that runs the agent, for example in a namespace of its own.
 * @param options.env variables besides, or instead of, those that every test sets.
 */
export async function startHostAgentProcess(
  home: string,
  options: {
    crashAt?: string;
    waitAt?: { step: string; gate: string };
    wrap?: string[];
    address?: string;
    spareVmm?: boolean;
    env?: Record<string, string>;
  } = {},
): Promise<HostAgentProcess> {
  const address = options.address ?? `unix:${home}/agent.sock`;
  const { cache, nativeDirectory } = testInstallation();
  const program = new URL("./hostagent_process.ts", import.meta.url).pathname;
  const argv = [...(options.wrap ?? []), Deno.execPath(), "run", "--allow-all", "--no-check", program];
  const child = new Deno.Command(argv[0]!, {
    args: argv.slice(1),
    env: {
      TORPOR_HOME: home,
      TORPOR_CACHE: cache,
      TORPOR_LIB_DIR: nativeDirectory,
      TORPOR_LISTEN: address,
      TORPOR_INTERNAL_TOKEN: TOKEN,
      TORPOR_TEST_CRASH_AT: options.crashAt ?? "",
      TORPOR_TEST_WAIT_AT: options.waitAt?.step ?? "",
      TORPOR_TEST_GATE: options.waitAt?.gate ?? "",
      TORPOR_SPARE_VMM: options.spareVmm ? "on" : "off",
      TORPOR_DISK_RESERVE_MB: "0",
      // Nothing in this machine's own network changes: a test of the network says so, and makes a namespace for the agent.
      TORPOR_NETWORK: "off",
      ...options.env,
    },
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  const ended = child.status;
  const client = openTestClient(address);
  try {
    await untilServing(client, ended);
  } catch (error) {
    client[Symbol.dispose]();
    throw error;
  }
  return {
    pid: child.pid,
    client,
    ended,
    async end(signal) {
      child.kill(signal);
      await ended;
    },
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]();
      try {
        child.kill("SIGKILL");
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // It has ended.
      }
      await ended;
    },
  };
}

async function untilServing(
  client: ServiceClient<typeof HostAgentService>,
  ended: Promise<Deno.CommandStatus>,
): Promise<void> {
  let status: Deno.CommandStatus | undefined;
  ended.then((s) => status = s);
  while (!status) {
    try {
      await client.listSandboxes({});
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw new Error(`the host agent ended with ${status.code} while it started`);
}

/** Tries `check` again until it returns something other than undefined; for what no event reports. */
export async function eventually<T>(check: () => Promise<T | undefined>, what: string, timeoutMs = 60_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  while (Date.now() < deadline) {
    const result = await check();
    if (result !== undefined) return result;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`never seen: ${what}`);
}

/** Pids of processes whose command line contains `text`: VMMs name their data directory there. */
export async function processesWith(text: string): Promise<number[]> {
  const pids: number[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const commandLine = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
    if (commandLine.startsWith("/usr/bin/qemu") && commandLine.includes(text)) pids.push(Number(name));
  }
  return pids;
}
