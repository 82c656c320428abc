/**
 * The egress proxy's process. It handles what guests send and needs nothing of the host but its network, so it runs as a user of its
 * own, without capabilities, and outlives the agent: connections through it go on while an agent is replaced.
 * @module
 */
import process from "node:process";
import { isInRange, isReservedAddress } from "@torpor/network";
import { type ProcessConfig, processConfigSchema } from "./control_messages.ts";
import { ControlServer } from "./control_server.ts";
import { EGRESS_LIMITS } from "./limits.ts";
import { LocalAddresses } from "./local_addresses.ts";
import { Proxy } from "./proxy.ts";
import { NameResolver } from "./resolver.ts";

async function main(config: ProcessConfig): Promise<void> {
  const listener = Deno.listen({ transport: "unix", path: config.socket });
  // All code is loaded and the socket is there: from here on nothing is read or written by this user's rights.
  if (config.uid !== undefined) become(config.uid);
  const resolver = new NameResolver(config.resolvers);
  const local = new LocalAddresses();
  await using proxy = new Proxy({
    limits: EGRESS_LIMITS,
    ports: { http: config.httpPort, tls: config.tlsPort },
    resolve: (name) => resolver.resolve(name),
    isRefused: (address) =>
      isReservedAddress(address) || isInRange(address, config.refusedRanges) || local.includes(address),
    dial: (address, port, signal) => Deno.connect({ hostname: address, port, signal }),
    report: (outcome) => control.report(outcome),
  });
  // A slot that has been removed took its address with it.
  const isNeeded = () => proxy.hostAddresses.some((address) => local.includes(address));
  const control: ControlServer = new ControlServer(config.fingerprint, () => proxy, isNeeded);
  await control.serve(listener);
}

function become(uid: number): void {
  process.setgid!(uid);
  process.setuid!(uid);
  // Nobody goes on with more rights than were asked for.
  if (Deno.uid() !== uid || Deno.gid() !== uid) throw new Error(`could not become user ${uid}`);
}

if (import.meta.main) {
  await main(processConfigSchema.parse(JSON.parse(Deno.args[0] ?? "null")));
  // Lookups that nobody waits for any more would hold the process for seconds.
  Deno.exit(0);
}
