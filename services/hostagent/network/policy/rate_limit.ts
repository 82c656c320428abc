import { log } from "@torpor/telemetry";
import { type NetworkConfig, type Slot, TAP_DEVICE, UPLINK_DEVICE } from "../types.ts";
import { runInNamespace } from "./apply_ruleset.ts";
import { DEFAULT_LIMITS, type NetworkLimits } from "./limits.ts";

/** What the queue sends at once: 10 ms of the rate, and never less than a packet that is not segmented yet. */
const BURST_SEC = 0.01;
const LEAST_BURST_BYTES = 65_536;

/** How long a packet may wait before it is dropped, ms. */
const LATENCY_MS = 100;

/**
 * Decides how this host keeps to a rate: with a token bucket queue (`tc`), or, where the kernel has none, by dropping (`nft`),
 * which TCP copes with far worse.
 */
export async function chooseLimits(wanted: Omit<NetworkLimits, "rateBy">): Promise<NetworkLimits> {
  if (wanted.rateMbit === 0) return { ...wanted, rateBy: DEFAULT_LIMITS.rateBy };
  try {
    await runInNamespace(["unshare", "--net", "tc", ...queue("lo", wanted.rateMbit)]);
    return { ...wanted, rateBy: "tc" };
  } catch (error) {
    log("warn", "no_traffic_shaping", { hint: "the rate is kept by dropping: load sch_tbf" }, error);
    return { ...wanted, rateBy: "nft" };
  }
}

/**
 * Gives a slot its rate, each way: what leaves the guest waits at the uplink, what comes to it at its tap device. Once for a
 * slot; policies do not change it.
 * @throws TorporError `unavailable`.
 */
export async function limitRate({ limits = DEFAULT_LIMITS }: NetworkConfig, slot: Slot): Promise<void> {
  if (limits.rateMbit === 0 || limits.rateBy !== "tc") return;
  const lines = [UPLINK_DEVICE, TAP_DEVICE].map((device) => queue(device, limits.rateMbit).join(" "));
  await runInNamespace(["tc", "-batch", "-"], slot.namespace, lines.join("\n") + "\n");
}

function queue(device: string, rateMbit: number): string[] {
  const burst = Math.max(LEAST_BURST_BYTES, Math.round(rateMbit * 125_000 * BURST_SEC));
  const bucket = ["rate", `${rateMbit}mbit`, "burst", `${burst}`, "latency", `${LATENCY_MS}ms`];
  return ["qdisc", "replace", "dev", device, "root", "tbf", ...bucket];
}
