/** Attempts on what connects guest and host: the channel of the guest's agent. */
import { TorporError } from "@torpor/errors";
import { eventually } from "@torpor/testing/hostagent";
import { encodeFrame } from "../../../../services/hostagent/guest/framing.ts";
import { HOST_PORTS } from "../../ground/mod.ts";
import type { Arena } from "../arena.ts";
import { type Attempt, unless } from "../attempt.ts";

const SCAN_TIMEOUT_MS = 300;

/** Both of them, and the agent, are as they were. */
async function allIsWell({ agent, intruder, victim }: Arena): Promise<string | undefined> {
  const alive = [await victim.shell("echo alive"), await patiently(() => intruder.shell("echo alive"))];
  const { sandboxes } = await agent.client.listSandboxes({});
  return unless(alive.join(), "alive,alive") ??
    unless(sandboxes.map(({ status }) => status).join(), "running,running");
}

/** What the intruder's guest is asked is lost when its channel is: that is no breach, as it is his own. */
async function patiently(ask: () => Promise<string>): Promise<string> {
  return await eventually(async () => {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof TorporError) return undefined;
      throw error;
    }
  }, "an answer of the intruder's guest");
}

/** Writes into the port of the guest's agent. The intruder may lose his own channel for a while, nobody else anything. */
function garbage(name: string, quick: boolean, count: number, hex: () => string): Attempt {
  return {
    name,
    quick,
    control: allIsWell,
    async attack(arena) {
      const pid = await arena.intruder.shell("pgrep -x torpor-agent | head -1");
      // Its answer comes through the same channel, so it may be lost; the file shows what was written.
      await arena.intruder.shell(
        `setsid sh -c 'sleep 0.2; exec /usr/local/bin/probe garbage ${pid} ${count} ${hex()}' > /tmp/garbage 2>&1 & echo`,
      );
      await new Promise((resolve) => setTimeout(resolve, 2000));
      const victim = await arena.victim.shell("echo alive");
      const written = await patiently(() => arena.intruder.shell("cat /tmp/garbage"));
      if (!(Number(written) > 0)) throw new Error(`nothing was written: ${written}`);
      if (await Promise.race([arena.agent.ended.then(() => true), false])) return "the host agent has ended";
      return unless(victim, "alive") ?? await allIsWell(arena);
    },
  };
}

/** Ports of an address that are open, from the guest. */
function scanning(
  name: string,
  quick: boolean,
  first: number,
  last: number,
  target: (arena: Arena) => string,
): Attempt {
  return {
    name,
    quick,
    async control(arena) {
      // From where nothing confines it a port of the host is seen by the same scan.
      const seen = await arena.unconfined("scan", "127.0.0.1", HOST_PORTS.api, HOST_PORTS.api, SCAN_TIMEOUT_MS);
      return unless(seen.split("\n")[0]!, `${HOST_PORTS.api} open`);
    },
    async attack(arena) {
      const seen = await arena.intruder.probe("scan", target(arena), first, last, SCAN_TIMEOUT_MS);
      const open = seen.split("\n").filter((line) => line.endsWith("open"));
      // The gateway's port 53 leads to the configured resolvers.
      const others = open.filter((line) => !(target(arena) === "10.249.0.1" && line === "53 open"));
      return others.length > 0 ? others.join(", ") : undefined;
    },
  };
}

/** A frame with a right checksum whose content is no message. */
const wrongMessage = () => encodeFrame(new Uint8Array(512).fill(0xff)).toHex();

/** All of them. */
export const channelAttempts: Attempt[] = [
  garbage("malformed frames into the agent's channel", true, 64, () => "ff".repeat(1024)),
  garbage("a frame without end into the agent's channel", false, 512, () => "ff".repeat(1024)),
  garbage("empty frames into the agent's channel", false, 512, () => "00".repeat(1024)),
  garbage("frames that are right, with messages that are not", false, 64, wrongMessage),
  scanning("ports of the gateway", true, 1, 1024, () => "10.249.0.1"),
  scanning("ports of the host's side", true, 7000, 7511, ({ intruder }) => intruder.slot.hostAddress),
  scanning("all ports of the host's side", false, 1, 65_535, ({ intruder }) => intruder.slot.hostAddress),
  {
    name: "a socket to the host without a network",
    quick: true,
    control: async (arena) => unless(await arena.intruder.shell("echo alive"), "alive"),
    async attack(arena) {
      const seen = await arena.intruder.probe("vsock", 2, 1, 64);
      return seen.includes("open") ? seen : undefined;
    },
  },
];
