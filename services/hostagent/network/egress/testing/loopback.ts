import type { EgressLimits } from "../limits.ts";
import { EGRESS_LIMITS } from "../limits.ts";
import { Proxy } from "../proxy.ts";
import { isReservedAddress } from "@torpor/network";
import { NameResolver } from "../resolver.ts";
import type { Outcome } from "../slot_proxy.ts";
import type { EgressSlot } from "../types.ts";
import { DnsServer, type Zone } from "./dns_server.ts";

/** Owned by nobody here: a connection to it is led to a server of the test. */
export const PUBLIC_ADDRESS = "93.184.216.34";

/** A proxy on loopback, whose way to the internet ends at servers of the test. */
export class LoopbackProxy implements AsyncDisposable {
  readonly outcomes: Outcome[] = [];
  /** What was dialed: `address:port`. */
  readonly dialed: string[] = [];
  /** Where connections to the internet go, by the port that was meant. */
  readonly servers = new Map<number, number>();
  #waiting: (() => void)[] = [];

  private constructor(
    readonly proxy: Proxy,
    readonly dns: DnsServer,
    readonly ports: { http: number; tls: number },
    readonly slot: EgressSlot,
  ) {}

  static async start(zone: Zone, limits: Partial<EgressLimits> = {}): Promise<LoopbackProxy> {
    const dns = await DnsServer.start(zone);
    const resolver = new NameResolver([dns.address]);
    const ports = { http: freePort(), tls: freePort() };
    const slot = { hostAddress: "127.0.0.2", slotAddress: "127.0.0.1" };
    const proxy: Proxy = new Proxy({
      limits: { ...EGRESS_LIMITS, ...limits },
      ports,
      resolve: (name) => resolver.resolve(name),
      isRefused: isReservedAddress,
      dial: (address, port, signal) => self.#dial(address, port, signal),
      report: (outcome) => self.#report(outcome),
    });
    const self: LoopbackProxy = new LoopbackProxy(proxy, dns, ports, slot);
    return self;
  }

  /** Connects as the sandbox does, whose packets are led to the proxy. */
  connect(protocol: "http" | "tls"): Promise<Deno.TcpConn> {
    return Deno.connect({ hostname: this.slot.hostAddress, port: this.ports[protocol] });
  }

  /** Waits until so many connections have ended, and tells how. */
  async ended(count: number): Promise<string[]> {
    while (this.outcomes.length < count) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    return this.outcomes.map(({ outcome }) => outcome);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
    await this.dns[Symbol.asyncDispose]();
  }

  #dial(address: string, port: number, signal: AbortSignal): Promise<Deno.TcpConn> {
    this.dialed.push(`${address}:${port}`);
    return Deno.connect({ hostname: "127.0.0.1", port: this.servers.get(port) ?? 1, signal });
  }

  #report(outcome: Outcome): void {
    this.outcomes.push(outcome);
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** A port of TCP that nobody listens on. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.2", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

/** All that a connection gives until its end, as text. */
export async function readAll(connection: Deno.Conn): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(65_536);
  for (;;) {
    const count = await connection.read(buffer).catch((error) => {
      if (error instanceof Deno.errors.ConnectionReset) return null;
      throw error;
    });
    if (count === null) return text;
    text += String.fromCharCode(...buffer.subarray(0, count));
  }
}

/** Sends `text` and reads the answer to its end. */
export async function exchange(connection: Deno.Conn, text: string): Promise<string> {
  using _closed = connection;
  await connection.write(Uint8Array.from(text, (char) => char.charCodeAt(0)));
  return await readAll(connection);
}
