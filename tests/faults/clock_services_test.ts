import { assert, assertEquals } from "@std/assert";
import { openTestDatabase } from "@torpor/testing/postgres";
import { FakedClock } from "./faked_clock.ts";
import { Load } from "./load.ts";
import { Plane } from "./plane.ts";
import { assertNothingLost, periodsUntilRest } from "./rest.ts";

const HOUR_SEC = 3_600;

Deno.test("the clocks of all services jump an hour on, two back and right again under load: nothing ends early, nothing is lost", async () => {
  await using test = await openTestDatabase();
  await using clock = await FakedClock.make();
  await using plane = await Plane.start({ databaseUrl: test.url, apis: 2, reconcilers: 2, hosts: 2, env: clock.env });
  const pids = await plane.pids();
  // What would be over in an hour, or never begin when the clock is set back.
  const lasting = { timeout_sec: 1_800, ttl_sec: 1_800, auto_delete_after_sec: 1_800 };
  const { sandbox_id: id } = await plane.demand("POST", "/v1/sandboxes", { body: lasting });
  const { key } = await plane.demand("POST", "/v1/api-keys", { body: { name: "k", expires_in_sec: 1_800 } });
  const load = new Load(plane, 8);
  await load.goesOn(20);
  for (const aheadSec of [HOUR_SEC, -HOUR_SEC, 0]) {
    await clock.set(aheadSec);
    const name = `ahead-${aheadSec}`;
    const made = await plane.demand("POST", "/v1/api-keys", { body: { name, expires_in_sec: 1_800 } });
    await load.goesOn(20);
    // A clock that is not faked would make this test nothing.
    const { entries } = await plane.demand("GET", `/v1/audit?target=${made.key_id}`);
    const sawSec = (Date.parse(entries[0].created_at) - Date.now()) / 1_000;
    assert(Math.abs(sawSec - aheadSec) < 60, `the services' clock is ${sawSec} s ahead instead of ${aheadSec}`);
    for (const each of [key, made.key]) {
      const { status, json } = await plane.call("GET", `/v1/sandboxes/${id}`, { key: each });
      assertEquals([status, json.state], [200, "running"], `clock ${aheadSec} s ahead: ${JSON.stringify(json)}`);
    }
  }
  await load.abandon();
  const periods = await periodsUntilRest(plane, 10);
  console.log(`faults_clock ${JSON.stringify({ ...load.counts, periods })}`);
  assert(periods <= 2, `${periods} periods until rest`);
  await assertNothingLost(plane, load);
  assertEquals((await plane.demand("GET", `/v1/sandboxes/${id}`)).state, "running");
  const unnoted = await plane.database.sql`
    select * from api_keys where last_used_at is null or last_used_at not between created_at and clock_timestamp()`;
  assertEquals([...unnoted], [], "uses are noted by the right clock");
  assert(await plane.leader() !== undefined, "nobody leads");
  assertEquals(await plane.pids(), pids, "no service has died");
});
