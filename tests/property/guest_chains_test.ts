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

Deno.test("random chains with real guests leave every byte as the model says", async () => {
  const seed = Deno.env.get("TORPOR_PROPERTY_SEED");
  const count = Number(Deno.env.get("TORPOR_PROPERTY_GUEST_CHAINS") ?? (seed ? 1 : DEFAULT_CHAINS));
  const first = seed ? Number(seed) : crypto.getRandomValues(new Uint32Array(1))[0]! >>> 1;
  await using host = await startTestHostAgent();
  const snapshotId = await prepareGuest(host, MEMORY_MB);
  console.log(`guest_chain_seeds ${first} … ${first + count - 1}`);
  const wrong: string[] = [];
  for (let next = first; next < first + count; next++) {
    const chain = new GuestChain(host, new Random(next));
    try {
      await chain.run(snapshotId);
    } catch (error) {
      wrong.push(`seed ${next}:\n  ${chain.steps.join("\n  ")}\n${Deno.inspect(error)}`);
      await host.agent.manager.destroyAll();
    }
  }
  console.log(`guest_chains_checked ${count}\nguest_chains_wrong ${wrong.length}`);
  assertEquals(wrong.join("\n\n"), "");
  await host.client.deleteSnapshot({ snapshotId });
  assertEquals(Array.from(Deno.readDirSync(host.layout.snapshots), ({ name }) => name), []);
});
