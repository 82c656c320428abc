import { createHash } from "node:crypto";
import { TorporError } from "@torpor/errors";
import { runTool } from "../tool/run_tool.ts";

/** As many host agents as one machine plays. */
export const MAX_HOSTS = 8;

/**
 * The private network of a data directory whose host agents each have a network namespace of their own: a bridge where
 * the control plane has an address, and a veth pair into each namespace. Nothing routes beyond it.
 */
export interface HostNetwork {
  bridge: string;
  /** Where the control plane is reached. */
  controlAddress: string;
  hosts: HostNetworkMember[];
}

/** One host's part of a {@linkcode HostNetwork}. */
export interface HostNetworkMember {
  namespace: string;
  /** The end of its veth pair on the bridge: with that down, nobody reaches it. */
  link: string;
  address: string;
}

/** What the network of a data directory is called and numbered; different ones for different directories. */
export function hostNetworkOf(home: string, count: number): HostNetwork {
  const hash = createHash("sha256").update(home).digest();
  const tag = hash.toString("hex").slice(0, 6);
  // 10.192.0.0/10 has room for 16,384 networks of 256 addresses.
  const subnet = `10.${192 + (hash[3]! & 63)}.${hash[4]!}`;
  return {
    bridge: `tpr${tag}`,
    controlAddress: `${subnet}.1`,
    hosts: Array.from({ length: count }, (_, i) => ({
      namespace: `torpor-${tag}-${i + 1}`,
      link: `tpr${tag}h${i + 1}`,
      address: `${subnet}.${11 + i}`,
    })),
  };
}

/**
 * Makes a network; parts that are there stay.
 * @throws TorporError `conflict` when its addresses belong to another network of this machine; `internal`.
 */
export async function createHostNetwork(network: HostNetwork): Promise<void> {
  const { bridge, controlAddress, hosts } = network;
  if (!await hasInterface(bridge)) {
    await requireUnusedSubnet(controlAddress);
    await ip("link", "add", bridge, "type", "bridge");
    await ip("address", "add", `${controlAddress}/24`, "dev", bridge);
    await ip("link", "set", bridge, "up");
  }
  for (const host of hosts) await createMember(bridge, host);
}

async function createMember(bridge: string, { namespace, link, address }: HostNetworkMember): Promise<void> {
  const namespaces = await hostNamespaces();
  if (!namespaces.includes(namespace)) await ip("netns", "add", namespace);
  if (await hasInterface(link)) return;
  await ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace);
  await ip("link", "set", link, "master", bridge, "up");
  await ip("-n", namespace, "address", "add", `${address}/24`, "dev", "eth0");
  await ip("-n", namespace, "link", "set", "eth0", "up");
  await ip("-n", namespace, "link", "set", "lo", "up");
}

/** Removes a network with all its namespaces; what is not there is fine. Call it when nothing runs there any more. */
export async function removeHostNetwork({ bridge, hosts }: HostNetwork): Promise<void> {
  const namespaces = await hostNamespaces();
  for (const { namespace, link } of hosts) {
    // A veth pair ends with one of its ends; a namespace only with the last process in it.
    if (await hasInterface(link)) await ip("link", "delete", link);
    if (namespaces.includes(namespace)) await ip("netns", "delete", namespace);
  }
  if (await hasInterface(bridge)) await ip("link", "delete", bridge);
}

/** Cuts a host off, or joins it again: packets are lost without a word, as with a cable that was pulled. */
export async function setHostLink({ link }: HostNetworkMember, state: "up" | "down"): Promise<void> {
  await ip("link", "set", link, state);
}

/** The arguments that run a program in a host's namespace. */
export function inNamespace({ namespace }: HostNetworkMember, argv: string[]): string[] {
  return ["ip", "netns", "exec", namespace, ...argv];
}

async function requireUnusedSubnet(controlAddress: string): Promise<void> {
  const subnet = controlAddress.replace(/\.1$/, ".0/24");
  const routes = await ip("-4", "route", "list", "root", subnet);
  const inside = await ip("-4", "address", "show", "to", subnet);
  if (routes.trim() === "" && inside.trim() === "") return;
  throw new TorporError("conflict", `the network ${subnet} is in use on this machine`, {
    hint: "the numbers come from the path of TORPOR_HOME: use another one",
  });
}

async function hostNamespaces(): Promise<string[]> {
  return (await ip("netns", "list")).split("\n").map((line) => line.split(" ")[0]!);
}

async function hasInterface(name: string): Promise<boolean> {
  try {
    await Deno.lstat(`/sys/class/net/${name}`);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function ip(...args: string[]): Promise<string> {
  return await runTool(["ip", ...args], { hint: "apt-get install iproute2; this needs root" });
}
