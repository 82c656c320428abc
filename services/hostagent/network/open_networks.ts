import { setNetworkSetting } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";
import type { Layout } from "../storage/layout.ts";
import { endEgressProxy, startEgressProxy } from "./egress/mod.ts";
import { HostNetworks } from "./host_networks.ts";
import { IsolatedNetworks } from "./isolated_networks.ts";
import { removeHostRules } from "./host_rules.ts";
import { applyRuleset, chooseLimits, DEFAULT_LIMITS, hostRuleset, type NetworkLimits } from "./policy/mod.ts";
import { DEFAULT_CIDR, isSlotAddress, slotAt, vethPrefix } from "./slots/addresses.ts";
import { allFound, findSlots } from "./slots/found_slots.ts";
import { removeSlot } from "./slots/make_slot.ts";
import { agentNames } from "./slots/names.ts";
import { findNetworkPrograms } from "./slots/programs.ts";
import type { EgressPorts, NetworkConfig } from "./types.ts";
import type { VmNetworks } from "./vm_network.ts";

/** What the operator says about the network of the sandboxes. */
export interface NetworkSettings {
  /** Absent: on where slots can be made. */
  mode?: "on" | "off";
  cidr: string;
  dns: string[];
  /** Slots that are prepared ahead. */
  pool: number;
  /** Of each sandbox; absent: the defaults. */
  limits?: Omit<NetworkLimits, "rateBy">;
}

/** Nothing else is on a slot's end of a veth pair. */
const EGRESS_PORTS: EgressPorts = { httpPort: 17080, tlsPort: 17443 };

/**
 * The network of this host's virtual machines.
 * @param settings absent: off.
 * @throws TorporError `config_invalid` when it is to be on and cannot be.
 */
export async function openNetworks(settings: NetworkSettings | undefined, layout: Layout): Promise<VmNetworks> {
  if (!settings || settings.mode === "off") return await isolated(layout);
  const { cidr, dns, pool } = settings;
  const limits = await chooseLimits(settings.limits ?? DEFAULT_LIMITS);
  const config = { cidr, dns, limits, ...await agentNames(layout.home), egress: EGRESS_PORTS };
  try {
    const networks = await openHostNetworks(config, pool, layout);
    log("info", "network_on", { cidr: config.cidr, agent_id: config.agentId });
    return networks;
  } catch (cause) {
    await removeHostRules(config);
    if (settings.mode === "on") {
      const hint = "see docs/deployment.md for what the host agent needs, or set TORPOR_NETWORK=off";
      throw new TorporError("config_invalid", "sandboxes cannot be given a network here", {
        cause,
        field: "TORPOR_NETWORK",
        hint,
      });
    }
    log("warn", "network_off", { hint: "set TORPOR_NETWORK to on or off" }, cause);
    return await isolated(layout);
  }
}

async function openHostNetworks(config: NetworkConfig, pool: number, layout: Layout): Promise<HostNetworks> {
  const programs = await findNetworkPrograms();
  requireFreeRange(config);
  await setNetworkSetting("ipv4/ip_forward", "1");
  await applyRuleset(hostRuleset(config));
  const egress = await startEgressProxy(config, layout.egress);
  try {
    return await HostNetworks.open({ programs, config, egress }, pool);
  } catch (error) {
    await egress.close({ keep: false });
    throw error;
  }
}

/** What an earlier agent with network has left is removed: its guests are to have none. */
async function isolated(layout: Layout): Promise<VmNetworks> {
  const config = { cidr: DEFAULT_CIDR, dns: [], ...await agentNames(layout.home), egress: EGRESS_PORTS };
  return await IsolatedNetworks.open(async () => {
    await endEgressProxy(layout.egress);
    const left = allFound(await findSlots(config));
    if (left.size === 0) return;
    const programs = await findNetworkPrograms();
    for (const index of left) await removeSlot(programs, config, slotAt(config, index));
    await removeHostRules(config);
  });
}

/** @throws TorporError `unavailable` when somebody else uses addresses of the range. */
function requireFreeRange(config: NetworkConfig): void {
  const ours = vethPrefix(config.agentId);
  const other = Deno.networkInterfaces().find(({ name, address }) =>
    !name.startsWith(ours) && isSlotAddress(config, address)
  );
  if (!other) return;
  throw new TorporError("unavailable", `${config.cidr} is in use: ${other.name} has ${other.address}`, {
    hint: "set TORPOR_NETWORK_CIDR to a range that nothing else uses",
  });
}
