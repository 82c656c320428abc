// Makes and removes slots in the network namespace that it runs in, and prints how long that takes: one JSON object.
import { nativeFiles, openLibrary, setNetworkSetting } from "@torpor/ffi";
import { makeSlot, removeSlot } from "../../../services/hostagent/network/slots/make_slot.ts";
import { findNetworkPrograms } from "../../../services/hostagent/network/slots/programs.ts";
import { slotAt } from "../../../services/hostagent/network/slots/addresses.ts";
import type { NetworkConfig } from "../../../services/hostagent/network/types.ts";
import { quantile } from "../control-plane/quantile.ts";

const ALONE = 40;
const ROUNDS = 4;
const AT_ONCE = 16;

const agentId = crypto.randomUUID().slice(0, 6);
const config: NetworkConfig = {
  cidr: "10.250.0.0/16",
  dns: ["1.1.1.1", "8.8.8.8"],
  agentId,
  namespacePrefix: `torpor-${agentId}-`,
  egress: { httpPort: 17080, tlsPort: 17443 },
};
openLibrary(nativeFiles().library);
const programs = await findNetworkPrograms();
await setNetworkSetting("ipv4/ip_forward", "1");

/** Makes a slot and removes it; how long both took, ms. */
async function makeAndRemove(index: number): Promise<{ made: number; removed: number }> {
  const slot = slotAt(config, index);
  const began = performance.now();
  const { tap } = await makeSlot(programs, config, slot);
  const made = performance.now() - began;
  tap.close();
  const ending = performance.now();
  await removeSlot(programs, config, slot);
  return { made, removed: performance.now() - ending };
}

/** All made, then all removed, each at the same time; how long each took, ms. */
async function together(): Promise<{ made: number; removed: number }[]> {
  const slots = Array.from({ length: AT_ONCE }, (_, index) => slotAt(config, index));
  const timed = async (work: () => Promise<void>) => {
    const began = performance.now();
    await work();
    return performance.now() - began;
  };
  const made = await Promise.all(
    slots.map((slot) => timed(async () => (await makeSlot(programs, config, slot)).tap.close())),
  );
  const removed = await Promise.all(slots.map((slot) => timed(() => removeSlot(programs, config, slot))));
  return slots.map((_, i) => ({ made: made[i]!, removed: removed[i]! }));
}

await makeAndRemove(0);
const alone = [];
for (let i = 0; i < ALONE; i++) alone.push(await makeAndRemove(i % AT_ONCE));
const crowd = [];
for (let i = 0; i < ROUNDS; i++) crowd.push(...await together());

const figures = (name: string, times: number[]) => ({
  [`${name}_p50_ms`]: quantile(times, 0.5),
  [`${name}_p99_ms`]: quantile(times, 0.99),
});
console.log(JSON.stringify({
  ...figures("slot_setup", alone.map(({ made }) => made)),
  ...figures("slot_teardown", alone.map(({ removed }) => removed)),
  ...figures(`slot_setup_${AT_ONCE}`, crowd.map(({ made }) => made)),
  ...figures(`slot_teardown_${AT_ONCE}`, crowd.map(({ removed }) => removed)),
}));
