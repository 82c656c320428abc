/** Attempts to talk to an address, as any program does it. */
import { HOST_PORTS, INTERNET_PORTS, PUBLIC, UPLINK } from "../../ground/mod.ts";
import type { Arena } from "../arena.ts";
import { probeIn } from "../guest.ts";
import { type Attempt, NOT_OPEN, unless } from "../attempt.ts";

const TIMEOUT_MS = 1000;
/** Of what has to work; a guest without KVM is slow. */
const PATIENT_MS = 10_000;

/** "probe" as hex. */
const DATAGRAM = "70726f6265";

/** Who is to be reached. */
export interface Target {
  address: string;
  port: number;
}

/** How the intruder's program talks: the arguments for a target, and what it prints when that answers. */
const SPEECHES = {
  tcp: { arguments: ({ address, port }: Target, ms: number) => ["connect", address, port, ms, ""], success: "open" },
  udp: {
    arguments: ({ address, port }: Target, ms: number) => ["udp", address, port, ms, DATAGRAM],
    success: "answered",
  },
  ping: { arguments: ({ address }: Target, ms: number) => ["ping", address, ms], success: "answered" },
} as const;

/** What {@linkcode reaching} needs to know. */
export interface Reach {
  name: string;
  quick?: boolean;
  by: keyof typeof SPEECHES;
  target: (arena: Arena) => Target;
  /** From where it works; default: the agent's namespace, where nothing confines it. */
  control?: (arena: Arena, args: (string | number)[]) => Promise<string>;
}

/**
 * An attempt to talk to who must not be reached. Besides the answer, no packet to it may arrive in the internet, or pass the rules of
 * the agent's namespace: an answer that is lost is a breach, too.
 */
export function reaching({ name, quick = false, by, target, control }: Reach): Attempt {
  const { arguments: argumentsFor, success } = SPEECHES[by];
  return {
    name,
    quick,
    async control(arena) {
      const args = argumentsFor(target(arena), PATIENT_MS);
      const unconfined = await (control?.(arena, args) ?? arena.unconfined(...args));
      const first = unconfined.split("\n")[0]!;
      return unless(first, success) ?? await worksInGuest(arena, by);
    },
    async attack(arena) {
      const { address, port } = target(arena);
      const word = (await arena.intruder.probe(...argumentsFor({ address, port }, TIMEOUT_MS))).split("\n")[0]!;
      if (!NOT_OPEN.includes(word) && word !== "silent") return `${by} to ${address}:${port}: ${word}`;
      return await gotThrough(arena, address);
    },
  };
}

/** The same probe from the intruder's guest to somebody who may be reached. */
export async function worksInGuest(arena: Arena, by: keyof typeof SPEECHES): Promise<string | undefined> {
  const args = SPEECHES[by].arguments({ address: PUBLIC.bystander, port: INTERNET_PORTS.echo }, PATIENT_MS);
  return unless((await arena.intruder.probe(...args)).split("\n")[0]!, SPEECHES[by].success);
}

/** Packets to an address that have arrived somewhere. */
export async function gotThrough({ ground }: Arena, address: string): Promise<string | undefined> {
  const seen = [...await ground.arrivals(), ...await ground.passed()];
  const packets = seen.find(({ destination }) => destination === address);
  return packets && `packets to ${address} have passed: ${JSON.stringify(packets)}`;
}

/** Where the victim's server listens. */
export const VICTIM_PORT = 4002;

/** The machine's own services, by each of its addresses. */
export const hostAttempts: Attempt[] = [
  ...Object.entries(HOST_PORTS).map(([name, port]) =>
    reaching({
      name: `host's ${name} at the slot's gateway`,
      quick: name === "api" || name === "database",
      by: "tcp",
      target: ({ intruder }) => ({ address: intruder.slot.hostAddress, port }),
    })
  ),
  reaching({
    name: "host's api at its public address",
    quick: true,
    by: "tcp",
    target: () => ({ address: UPLINK.agent, port: HOST_PORTS.api }),
  }),
  reaching({
    name: "host's database at its public address",
    by: "tcp",
    target: () => ({ address: UPLINK.agent, port: HOST_PORTS.database }),
  }),
  reaching({
    name: "host's UDP service",
    quick: true,
    by: "udp",
    target: () => ({ address: UPLINK.agent, port: INTERNET_PORTS.echo }),
  }),
  reaching({
    name: "ping the host",
    by: "ping",
    target: ({ intruder }) => ({ address: intruder.slot.hostAddress, port: 0 }),
  }),
  reaching({
    name: "host's api at the other tenant's gateway",
    by: "tcp",
    target: ({ victim }) => ({ address: victim.slot.hostAddress, port: HOST_PORTS.api }),
  }),
];

/** Another tenant. */
export const tenantAttempts: Attempt[] = [
  ...(["tcp", "udp", "ping"] as const).map((by) =>
    reaching({
      name: `other sandbox's slot address by ${by}`,
      quick: by === "tcp",
      by,
      target: ({ victim }) => ({ address: victim.slot.slotAddress, port: VICTIM_PORT }),
      // In the victim's slot its guest answers: that the probe works and that there is somebody to be reached.
      control: (arena, args) => controlAtVictim(arena, by, args),
    })
  ),
];

async function controlAtVictim(
  { victim, program }: Arena,
  by: Reach["by"],
  args: (string | number)[],
): Promise<string> {
  const atGuest = args.map((value) => value === victim.slot.slotAddress ? "10.249.0.2" : value);
  // Nobody listens for datagrams there: that it is refused shows that it has come.
  const word = await probeIn(victim.slot.namespace, program, ...atGuest);
  return by === "udp" && word === "refused" ? "answered" : word;
}
