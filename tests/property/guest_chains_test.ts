/**
 * Random chains with real guests: a program in the guest holds seeded bytes in its memory, in tmpfs and on the disk, over pauses,
 * checkpoints and forks. `TORPOR_PROPERTY_GUEST_CHAINS` sets their number, `TORPOR_PROPERTY_SEED` repeats one, or so many from there on.
 */
import { assertEquals } from "@std/assert";
import { startTestHostAgent } from "@torpor/testing/hostagent";
import { GuestChain, prepareGuest } from "./harness/guest_chain.ts";
import { Random } from "./harness/random.ts";

const DEFAULT_CHAINS = 10;
const MEMORY_MB = 160;

/** Many chains on a machine that does other things, too. */
const TIMEOUT_MS = 20 * 60_000;

Deno.test("random chains with real guests leave every byte as the model says", { timeout: TIMEOUT_MS }, async () => {
  const seed = Deno.env.get("TORPOR_PROPERTY_SEED");
  const count = Number(Deno.env.get("TORPOR_PROPERTY_GUEST_CHAINS") ?? (seed ? 1 : DEFAULT_CHAINS));
  const first = seed ? Number(seed) : crypto.getRandomValues(new Uint32Array(1))[0]! >>> 1;
  console.log(`guest_chain_seeds ${first} … ${first + count - 1}`);
  const seeds = Array.from({ length: count }, (_, index) => first + index);
  // A seed has the same host whenever it is repeated.
  const wrong = [
    ...await runOn(true, seeds.filter((each) => each % 2 === 0)),
    ...await runOn(false, seeds.filter((each) => each % 2 !== 0)),
  ];
  console.log(`guest_chains_checked ${count}\nguest_chains_wrong ${wrong.length}`);
  assertEquals(wrong.join("\n\n"), "");
});

/** Runs chains on a host of their own. @returns for each failed one its seed, its steps and what was wrong. */
async function runOn(sharedBase: boolean, seeds: number[]): Promise<string[]> {
  if (seeds.length === 0) return [];
  await using host = await startTestHostAgent({ sharedBase });
  const snapshotId = await prepareGuest(host, MEMORY_MB);
  const wrong: string[] = [];
  for (const seed of seeds) {
    const chain = new GuestChain(host, new Random(seed));
    try {
      await chain.run(snapshotId);
    } catch (error) {
      wrong.push(`seed ${seed}, shared base ${sharedBase}:\n  ${chain.steps.join("\n  ")}\n${Deno.inspect(error)}`);
      await host.agent.manager.destroyAll();
    }
  }
  await host.client.deleteSnapshot({ snapshotId });
  const left = Array.from(Deno.readDirSync(host.layout.snapshots), ({ name }) => name);
  if (left.length > 0) wrong.push(`shared base ${sharedBase}: left are ${left.join(" ")}`);
  return wrong;
}
