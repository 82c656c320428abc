/**
 * Where attempts are made: a ground, a host agent in it, and two sandboxes of different tenants, the intruder's and the victim's.
 */
import {
  eventually,
  type HostAgentProcess,
  makeTestHome,
  processesWith,
  startHostAgentProcess,
} from "@torpor/testing/hostagent";
import { newId } from "@torpor/ids";
import { runTool } from "../../../services/cli/tool/run_tool.ts";
import { GUEST_NETWORK } from "../../../services/hostagent/network/types.ts";
import { type Ground, makeGround, PUBLIC } from "../ground/mod.ts";
import { upTo } from "../up_to.ts";
import { buildProbe } from "../probe/build_probe.ts";
import { Guest, type GuestSlot, probeIn } from "./guest.ts";

/** The smallest that boots with room for the attempts. */
const MEMORY_MB = 192;
const DISK_MB = 512;

const END_MS = 20_000;
const CONNECT_MS = 1_000;

/** Where each guest has a server, so that its slot can be told from others'. */
const MARK_PORT = { intruder: 4001, victim: 4002 } as const;

/** Settings of the host agent. */
const SETTINGS = {
  TORPOR_NETWORK: "on",
  TORPOR_NETWORK_POOL: "2",
  TORPOR_DNS: `${PUBLIC.resolver},${PUBLIC.secondResolver}`,
};

/** See above. */
export class Arena implements AsyncDisposable {
  readonly memoryMb = MEMORY_MB;
  readonly diskMb = DISK_MB;
  intruder!: Guest;
  victim!: Guest;
  #resources?: AsyncDisposableStack;

  private constructor(
    readonly ground: Ground,
    /** As it is now: a killed one has a successor. */
    public agent: HostAgentProcess,
    readonly home: string,
    /** The intruder's program on this machine. */
    readonly program: string,
  ) {}

  /** Makes the ground, starts the agent in it, boots both sandboxes. */
  static async open(): Promise<Arena> {
    await using stack = new AsyncDisposableStack();
    const home = await makeTestHome();
    stack.defer(() => Deno.remove(home, { recursive: true }));
    const program = await buildProbe(home);
    const ground = stack.use(await makeGround());
    const agent = await startAgent(ground, home);
    const arena = new Arena(ground, agent, home, program);
    stack.defer(() => endAgent(arena.agent, home));
    const bytes = await Deno.readFile(program);
    arena.intruder = await arena.#boot(bytes, MARK_PORT.intruder);
    arena.victim = await arena.#boot(bytes, MARK_PORT.victim);
    arena.#resources = stack.move();
    return arena;
  }

  /** The intruder's program from where nothing confines it. */
  async unconfined(...args: (string | number)[]): Promise<string> {
    return await probeIn(this.ground.agent, this.program, ...args);
  }

  /** Pauses the intruder's sandbox and resumes it. */
  async sleepAndWake(): Promise<void> {
    const { client } = this.agent;
    await client.pauseSandbox({ sandboxId: this.intruder.id });
    await client.resumeSandbox({ sandboxId: this.intruder.id });
    this.intruder.slot = await this.#findSlot(MARK_PORT.intruder);
  }

  /** Kills the agent and starts another one, which adopts both sandboxes. */
  async restartAgent(): Promise<void> {
    await this.agent.end("SIGKILL");
    await this.agent[Symbol.asyncDispose]();
    this.agent = await startAgent(this.ground, this.home);
  }

  async #boot(bytes: Uint8Array<ArrayBuffer>, port: number): Promise<Guest> {
    const request = { sandboxId: newId(), vcpus: 1, memoryMb: MEMORY_MB, diskSizeMb: DISK_MB };
    const { sandboxId } = await this.agent.client.createSandbox(request);
    const guest = new Guest(() => this.agent, sandboxId);
    await guest.arm(bytes);
    await guest.background("serve", port);
    guest.slot = await this.#findSlot(port);
    return guest;
  }

  /** The slot whose guest listens on a port: found from outside, not told by the agent. */
  async #findSlot(port: number): Promise<GuestSlot> {
    return await eventually(async () => {
      for (const namespace of await slotNamespaces()) {
        const args = ["connect", GUEST_NETWORK.address, port, CONNECT_MS, ""];
        // A namespace may be on its way out.
        const word = await probeIn(namespace, this.program, ...args).catch(() => "");
        if (word === "open") return await describeSlot(namespace);
      }
    }, `a slot whose guest listens on port ${port}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources?.disposeAsync();
  }
}

async function startAgent(ground: Ground, home: string): Promise<HostAgentProcess> {
  return await startHostAgentProcess(home, { wrap: ground.agent.inside([]), env: SETTINGS });
}

/** Destroys all sandboxes; an agent that is killed before it has ended would leave its slots. */
async function endAgent(agent: HostAgentProcess, home: string): Promise<void> {
  await agent.client.terminate({}).catch((error) => console.error(`the agent could not be asked to end: ${error}`));
  await upTo(END_MS, agent.ended);
  await agent[Symbol.asyncDispose]();
  for (const pid of await processesWith(home)) Deno.kill(pid, "SIGKILL");
}

async function slotNamespaces(): Promise<string[]> {
  const names = (await runTool(["ip", "netns", "list"])).split("\n").map((line) => line.split(" ")[0]!);
  return names.filter((name) => name.startsWith("torpor-"));
}

async function describeSlot(namespace: string): Promise<GuestSlot> {
  const inside = async (...args: string[]) => JSON.parse(await runTool(["ip", "-n", namespace, "-j", ...args]));
  const [link] = await inside("-4", "address", "show", "dev", "up0") as { addr_info: { local: string }[] }[];
  const [route] = await inside("-4", "route", "show", "default") as { gateway: string }[];
  return { namespace, slotAddress: link!.addr_info[0]!.local, hostAddress: route!.gateway };
}
