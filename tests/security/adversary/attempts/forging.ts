/** Attempts with frames that root in the guest makes: nothing in them has to be true. */
import { GUEST_NETWORK } from "../../../../services/hostagent/network/types.ts";
import { FORBIDDEN, HOST_PORTS, INTERNET_PORTS, PUBLIC } from "../../ground/mod.ts";
import type { Arena } from "../arena.ts";
import type { Attempt } from "../attempt.ts";
import * as frames from "../frames.ts";
import { gotThrough, worksInGuest } from "./reaching.ts";

const { mac: OWN_MAC, address: OWN_ADDRESS, gateway: GATEWAY } = GUEST_NETWORK;
const OTHER_MAC = "02:ba:d0:ba:d0:01";
const COUNT = 3;
const ARP_TIMEOUT_MS = 3000;

/** Each frame goes to an address of its own, so that it is known which one has arrived. */
let markers = 0;
const nextMarker = () => `45.45.45.${++markers % 250 + 1}`;

/** What is not true about a frame. */
interface Forgery {
  name: string;
  quick?: boolean;
  frame: (ends: frames.Ends) => string;
  lie: (arena: Arena) => Partial<frames.Ends>;
  /** The frame that tells the truth is sent as this one. Default: as `frame`. */
  honest?: (ends: frames.Ends) => string;
}

/** An attempt to get a frame through that lies; the same frame without the lie arrives. */
function forging({ name, quick = false, frame, lie, honest = frame }: Forgery): Attempt {
  return {
    name,
    quick,
    async control(arena) {
      const target = nextMarker();
      await send(arena, honest({ ...await truth(arena), target }));
      return await gotThrough(arena, target) ? undefined : `a frame to ${target} that tells the truth has not arrived`;
    },
    async attack(arena) {
      const ends = { ...await truth(arena), target: nextMarker(), ...lie(arena) };
      await send(arena, frame(ends));
      return await gotThrough(arena, ends.target);
    },
  };
}

async function truth({ intruder }: Arena): Promise<frames.Ends> {
  const targetMac = await intruder.probe("arp", "eth0", GATEWAY, ARP_TIMEOUT_MS);
  if (targetMac === "silent") throw new Error("the gateway does not answer ARP");
  return { sourceMac: OWN_MAC, targetMac, source: OWN_ADDRESS, target: PUBLIC.bystander };
}

/** Frames leave in order: when a connection made after them stands, they have been dealt with. */
async function send(arena: Arena, frame: string): Promise<void> {
  await arena.intruder.probe("frame", "eth0", COUNT, frame);
  const problem = await worksInGuest(arena, "tcp");
  if (problem) throw new Error(`the guest's own connections no longer work: ${problem}`);
}

const udpFrame = (ends: frames.Ends) =>
  frames.ipv4Frame(ends, { protocol: frames.PROTOCOL.udp, payload: frames.udp(INTERNET_PORTS.echo, "forged") });

const synFrame = (port: number) => (ends: frames.Ends) =>
  frames.ipv4Frame(ends, { protocol: frames.PROTOCOL.tcp, payload: frames.tcpSyn(port, ends) });

/** In two pieces, the first so small that the ports are only in the second. */
const fragmentFrame = (ends: frames.Ends) => {
  const payload = frames.udp(INTERNET_PORTS.echo, "forged in two pieces that are put together again");
  return frames.ipv4Frame(ends, { protocol: frames.PROTOCOL.udp, payload: payload.subarray(0, 8), fragment: 0x2000 });
};

const rawFrame = (protocol: number) => (ends: frames.Ends) =>
  frames.ipv4Frame(ends, { protocol, payload: new Uint8Array(16) });

/** Sources and devices that are not the guest's. */
const spoofAttempts: Attempt[] = [
  forging({ name: "source address of nobody", quick: true, frame: udpFrame, lie: () => ({ source: "203.0.113.9" }) }),
  forging({ name: "source address in the guest's own net", frame: udpFrame, lie: () => ({ source: "10.249.0.3" }) }),
  forging({
    name: "source address of the other sandbox",
    quick: true,
    frame: udpFrame,
    lie: ({ victim }) => ({ source: victim.slot.slotAddress }),
  }),
  forging({
    name: "source address of the own slot",
    frame: udpFrame,
    lie: ({ intruder }) => ({ source: intruder.slot.slotAddress }),
  }),
  forging({ name: "loopback as source", frame: udpFrame, lie: () => ({ source: "127.0.0.1" }) }),
  forging({ name: "MAC address of nobody", quick: true, frame: udpFrame, lie: () => ({ sourceMac: OTHER_MAC }) }),
  forging({
    name: "SYN from the other sandbox's address to the host",
    frame: synFrame(HOST_PORTS.api),
    lie: ({ victim, intruder }) => ({ source: victim.slot.slotAddress, target: intruder.slot.hostAddress }),
  }),
];

/** Ways around rules that look at addresses and ports. */
const evasionAttempts: Attempt[] = [
  forging({
    name: "raw IP to a private address",
    quick: true,
    frame: udpFrame,
    lie: () => ({ target: FORBIDDEN["RFC 1918 10/8"] }),
  }),
  forging({
    name: "first fragment to a private address",
    frame: fragmentFrame,
    honest: udpFrame,
    lie: () => ({ target: FORBIDDEN["RFC 1918 172.16/12"] }),
  }),
  forging({
    name: "later fragment to the metadata address",
    frame: (ends) =>
      frames.ipv4Frame(ends, { protocol: frames.PROTOCOL.udp, payload: new Uint8Array(24), fragment: 0x00b9 }),
    honest: udpFrame,
    lie: () => ({ target: FORBIDDEN.metadata }),
  }),
  forging({
    name: "source route over the gateway to a private address",
    frame: (ends) =>
      frames.ipv4Frame(ends, {
        protocol: frames.PROTOCOL.udp,
        payload: frames.udp(INTERNET_PORTS.echo, "routed"),
        options: frames.looseSourceRoute(FORBIDDEN["RFC 1918 10/8"]),
      }),
    honest: udpFrame,
    lie: () => ({ target: FORBIDDEN["RFC 1918 10/8"] }),
  }),
  ...(["gre", "ipip", "sctp"] as const).map((name) =>
    forging({
      name: `${name} to a private address`,
      frame: rawFrame(frames.PROTOCOL[name]),
      honest: udpFrame,
      lie: () => ({ target: FORBIDDEN["RFC 1918 192.168/16"] }),
    })
  ),
  forging({
    name: "loopback of the host as destination",
    frame: synFrame(HOST_PORTS.database),
    honest: synFrame(INTERNET_PORTS.echo),
    lie: () => ({ target: "127.0.0.1" }),
  }),
  forging({
    name: "multicast",
    frame: udpFrame,
    lie: () => ({ target: "239.255.255.250", targetMac: "01:00:5e:7f:ff:fa" }),
  }),
  forging({
    name: "broadcast",
    frame: udpFrame,
    lie: () => ({ target: "255.255.255.255", targetMac: "ff:ff:ff:ff:ff:ff" }),
  }),
];

/** A lie about who has which address; the slot's own table of neighbours shows whether it is believed. */
function poisoning(name: string, quick: boolean, claimed: (arena: Arena) => string): Attempt {
  return {
    name,
    quick,
    async control(arena) {
      return (await truth(arena)).targetMac === "" ? "no answer" : undefined;
    },
    async attack(arena) {
      const ends = await truth(arena);
      const lie = { ...ends, sourceMac: OTHER_MAC, source: claimed(arena), target: GATEWAY };
      // Once with the frame's own source as it should be, once all forged.
      const forged = frames.arpReply(lie);
      const disguised = forged.slice(0, 12) + OWN_MAC.replaceAll(":", "") + forged.slice(24);
      for (const frame of [disguised, forged]) await send(arena, frame);
      const { intruder, ground } = arena;
      const tables = await Promise.all([
        neighbours(["ip", "-n", intruder.slot.namespace]),
        neighbours(ground.agent.inside(["ip"])),
      ]);
      return tables.flat().find((line) => line.includes(OTHER_MAC));
    },
  };
}

async function neighbours(ip: string[]): Promise<string[]> {
  const [program, ...args] = [...ip, "neighbour", "show"];
  const { stdout } = await new Deno.Command(program!, { args, stdin: "null", stderr: "inherit" }).output();
  return new TextDecoder().decode(stdout).trim().split("\n");
}

/** All of them. */
export const forgingAttempts: Attempt[] = [
  ...spoofAttempts,
  ...evasionAttempts,
  poisoning("ARP: the gateway's address is mine", true, () => GATEWAY),
  poisoning("ARP: the host's address is mine", false, ({ intruder }) => intruder.slot.hostAddress),
  poisoning("ARP: the own address moves to another MAC", false, () => OWN_ADDRESS),
];
