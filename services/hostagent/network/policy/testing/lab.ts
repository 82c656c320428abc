/**
 * Network namespaces wired as a host agent wires them, with a program in each instead of a virtual machine:
 *
 *   guest0 eth0 ── tap0 slot0 up0 ── tv0 agent wan0 ── eth0 internet
 *   guest1 eth0 ── tap0 slot1 up0 ── tv1 agent
 *
 * The internet owns every address that a test aims at, so that what gets through is answered and no packet leaves the machine.
 */
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { runInNamespace } from "../apply_ruleset.ts";
import { GUEST_NETWORK as GUEST, type NetworkConfig, type Slot } from "../../types.ts";
import type { Order } from "./actor.ts";

/** What the agents of tests are configured with. */
export const CONFIG: NetworkConfig = {
  cidr: "10.250.0.0/16",
  dns: ["1.1.1.1", "8.8.8.8"],
  agentId: "lab",
  namespacePrefix: "torpor-lab-",
  egress: { httpPort: 30_080, tlsPort: 30_443 },
};

export const WEB = "93.184.216.34";
export const OTHER_WEB = "151.101.1.69";
export const OTHER_RESOLVER = "9.9.9.9";
export const WEB6 = "2606:2800:220:1::1";

/** What the internet of the lab has. */
const ADDRESSES = [
  ...["1.1.1.1", "8.8.8.8", OTHER_RESOLVER, WEB, OTHER_WEB],
  ...["10.20.30.40", "172.20.30.40", "192.168.30.40", "100.100.100.200", "168.63.129.16", "203.0.113.7"],
  ...[WEB6, "fd12:3456::1", "2001:db8::7"],
];

/** A program inside a namespace. */
export class Actor implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #waiting = new Map<number, (answer: string) => void>();
  readonly #read: Promise<void>;
  #count = 0;

  constructor(namespace: string) {
    const program = new URL("./actor.ts", import.meta.url).pathname;
    const config = new URL("../../../../../deno.json", import.meta.url).pathname;
    const deno = [
      Deno.execPath(),
      "run",
      "--no-check",
      "--config",
      config,
      "--unstable-net",
      "--allow-net",
      "--allow-env",
      program,
    ];
    this.#child = new Deno.Command("nsenter", {
      args: [`--net=/run/netns/${namespace}`, "--", ...deno],
      // Deno would ask for its newest version.
      env: { DENO_NO_UPDATE_CHECK: "1" },
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#read = this.#answers();
  }

  /** Has it do something and waits for what comes of it. */
  async tell(order: Order): Promise<string> {
    const id = this.#count++;
    const answer = new Promise<string>((resolve) => this.#waiting.set(id, resolve));
    await this.#input.write(new TextEncoder().encode(JSON.stringify({ id, ...order }) + "\n"));
    return await answer;
  }

  async #answers(): Promise<void> {
    const stdout = Readable.fromWeb(this.#child.stdout as Parameters<typeof Readable.fromWeb>[0]);
    for await (const line of createInterface({ input: stdout })) {
      const { id, answer } = JSON.parse(line);
      this.#waiting.get(id)?.(answer);
      this.#waiting.delete(id);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close();
    await this.#child.status;
    await this.#read;
    for (const give of this.#waiting.values()) give("the actor has ended");
  }
}

/** See the module's comment. */
export class Lab implements AsyncDisposable {
  readonly #name = `tpol-${Deno.pid}-${crypto.randomUUID().slice(0, 4)}`;
  readonly #stack = new AsyncDisposableStack();

  private constructor(readonly slots: Slot[]) {}

  static async make({ slots = 1 } = {}): Promise<Lab> {
    const lab = new Lab([]);
    try {
      for (const role of ["agent", "internet"]) await lab.#addNamespace(role);
      await lab.#addUplink();
      for (let index = 0; index < slots; index++) await lab.#addSlot(index);
      return lab;
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The name of a namespace: "agent", "internet", "slot0", "guest0" … */
  namespace(role: string): string {
    return `${this.#name}-${role}`;
  }

  /** Runs a program in one of the namespaces; returns what it prints. */
  async run(role: string, ...argv: string[]): Promise<string> {
    return await runInNamespace(argv, this.namespace(role));
  }

  /** Starts a program that talks from one of the namespaces; ends with the lab. */
  actor(role: string): Actor {
    return this.#stack.use(new Actor(this.namespace(role)));
  }

  async #addNamespace(role: string): Promise<void> {
    const name = this.namespace(role);
    await ip(["netns", "add", name]);
    this.#stack.defer(async () => void await ip(["netns", "delete", name]));
    await this.run(role, "ip", "link", "set", "lo", "up");
    const forwarding = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
    if (role !== "internet" && !role.startsWith("guest")) await this.run(role, "sh", "-c", forwarding);
  }

  async #link(roleA: string, deviceA: string, roleB: string, deviceB: string): Promise<void> {
    const [a, b] = [this.namespace(roleA), this.namespace(roleB)];
    await ip(["link", "add", deviceA, "netns", a, "type", "veth", "peer", "name", deviceB, "netns", b]);
    await this.run(roleA, "ip", "link", "set", deviceA, "up");
    await this.run(roleB, "ip", "link", "set", deviceB, "up");
  }

  async #ip(role: string, lines: string[]): Promise<void> {
    await runInNamespace(["ip", "-batch", "-"], this.namespace(role), lines.join("\n") + "\n");
  }

  async #addUplink(): Promise<void> {
    await this.#link("agent", "wan0", "internet", "eth0");
    await this.#ip("agent", [
      "addr add 198.51.100.2/24 dev wan0",
      "addr add 2001:db8:100::2/64 dev wan0 nodad",
      "route add default via 198.51.100.1",
      "route add default via 2001:db8:100::1",
    ]);
    await this.#ip("internet", [
      "addr add 198.51.100.1/24 dev eth0",
      "addr add 2001:db8:100::1/64 dev eth0 nodad",
      "route add 10.250.0.0/16 via 198.51.100.2",
      "route add fd99::/16 via 2001:db8:100::2",
      ...ADDRESSES.map((address) => `addr add ${address} dev lo${address.includes(":") ? " nodad" : ""}`),
    ]);
  }

  async #addSlot(index: number): Promise<void> {
    const [slot, guest] = [`slot${index}`, `guest${index}`];
    const [hostAddress, slotAddress] = [`10.250.0.${2 * index}`, `10.250.0.${2 * index + 1}`];
    for (const role of [slot, guest]) await this.#addNamespace(role);
    await this.#link("agent", `tv${index}`, slot, "up0");
    await this.#link(slot, "tap0", guest, "eth0");
    await this.#ip("agent", [
      `addr add ${hostAddress}/31 dev tv${index}`,
      `addr add fd99::${index}:1/112 dev tv${index} nodad`,
    ]);
    await this.#ip(slot, [
      `addr add ${slotAddress}/31 dev up0`,
      `addr add fd99::${index}:2/112 dev up0 nodad`,
      `addr add ${GUEST.gateway}/${GUEST.prefix} dev tap0`,
      `addr add ${GUEST.gateway6}/${GUEST.prefix6} dev tap0 nodad`,
      `route add default via ${hostAddress}`,
      `route add default via fd99::${index}:1`,
    ]);
    await this.#ip(guest, [
      `link set eth0 address ${GUEST.mac}`,
      `addr add ${GUEST.address}/${GUEST.prefix} dev eth0`,
      `addr add ${GUEST.address6}/${GUEST.prefix6} dev eth0 nodad`,
      `route add default via ${GUEST.gateway}`,
      `route add default via ${GUEST.gateway6}`,
    ]);
    this.slots.push({ index, namespace: this.namespace(slot), vethHost: `tv${index}`, hostAddress, slotAddress });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

async function ip(args: string[]): Promise<string> {
  return await runInNamespace(["ip", ...args]);
}
