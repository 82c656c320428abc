import { assert, assertEquals } from "@std/assert";
import { OwnCluster } from "./cluster.ts";
import { delay } from "./delay.ts";
import { Load } from "./load.ts";
import { Plane } from "./plane.ts";
import { assertNothingLost, periodsUntilRest } from "./rest.ts";

Deno.test("PostgreSQL is restarted under load, in order and by a crash: nothing acknowledged is lost", async () => {
  await using cluster = await OwnCluster.start();
  await using plane = await Plane.start({ databaseUrl: cluster.url, apis: 2, reconcilers: 2, hosts: 2 });
  const pids = await plane.pids();
  const load = new Load(plane, 8);
  await load.goesOn(40);
  for (const mode of ["fast", "immediate"] as const) {
    await cluster.restart(mode);
    await load.goesOn(40);
  }
  // A restart between two statements is waited for: not each one is noticed.
  assert(load.counts.unavailable > 0, "nobody has noticed");
  await cluster.restart("immediate");
  await load.abandon();
  const periods = await periodsUntilRest(plane, 10);
  console.log(`faults_restart ${JSON.stringify({ ...load.counts, periods })}`);
  assert(periods <= 2, `${periods} periods until rest`);
  await assertNothingLost(plane, load);
  // The lock of the one that led goes with its session; another one may only be about to ask for it.
  while (await plane.leader() === undefined) await delay(50);
  assertEquals(await plane.pids(), pids, "the services reconnect by themselves");
});
