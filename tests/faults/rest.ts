import { assert, assertEquals } from "@std/assert";
import { sandboxRows } from "@torpor/db";
import { isTransitional } from "@torpor/lifecycle";
import { assertAgreement } from "../crash/model/agreement.ts";
import { delay } from "./delay.ts";
import type { Load } from "./load.ts";
import { PERIOD_MS, type Plane } from "./plane.ts";

const LOOK_EVERY_MS = 50;

/** Waits until nothing is under way. @returns how long that took, in periods of the reconciler. */
export async function periodsUntilRest({ database }: Plane, most: number): Promise<number> {
  const began = performance.now();
  const periods = () => (performance.now() - began) / PERIOD_MS;
  for (;;) {
    const rows = await sandboxRows("test", () => database.sql`select * from sandboxes where state <> 'deleted'`);
    const moving = rows.filter(({ state }) => isTransitional(state)).map(({ id, state }) => `${id} ${state}`);
    const open = await database.sql<
      { id: string; kind: string }[]
    >`select id, kind from operations where state = 'running'`;
    if (moving.length + open.length === 0) return periods();
    assert(
      periods() < most,
      `no rest: ${moving.join(", ")}; ${open.map(({ id, kind }) => `${kind} ${id}`).join(", ")}`,
    );
    await delay(LOOK_EVERY_MS);
  }
}

/** Everything that was acknowledged is there, nothing is there twice, and the database and the hosts agree. */
export async function assertNothingLost(plane: Plane, load: Load): Promise<void> {
  assertEquals(load.wrong, []);
  await assertAgreement(plane.database, plane.hosts);
  const rows = await sandboxRows("test", () => plane.database.sql`select * from sandboxes`);
  const states = new Map(rows.map(({ id, state, reason }) => [id, `${state} ${reason}`.trim()]));
  for (const [id, state] of load.acknowledged) {
    assertEquals(states.get(id), state, `${id} was acknowledged as ${state}`);
  }
}
