import { assertEquals, assertRejects } from "@std/assert";
import { countTeamUse, getUsage, insertAuditRows, listAuditRows, updateTeam } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { ControlPlane, TEAM } from "./control_plane.ts";

Deno.test("what a host did by itself is adopted beyond a limit; what is asked for is refused and leaves nothing", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { database } = plane;
  const { id } = await plane.create();
  await plane.lifecycle.pauseSandbox(TEAM, id);
  await updateTeam(database, TEAM, { limits: { maxRunningSandboxes: 0 } });
  for (const work of [() => plane.lifecycle.resumeSandbox(TEAM, id), () => plane.create()]) {
    assertEquals((await assertRejects(work, TorporError)).code, "quota_exceeded");
  }
  assertEquals((await plane.sandbox(id)).state, "paused");
  assertEquals(await plane.journal(id), ["create succeeded", "pause succeeded"]);
  plane.host.sandboxes.get(id)!.status = "running";
  assertEquals(await reconciler.pass(), ["adopted_resume paused>running"]);
  const [counted] = await database.sql<{ runningSandboxes: bigint }[]>`select running_sandboxes from team_limits`;
  assertEquals([Number(counted!.runningSandboxes), plane.host.sandboxes.size], [1, 1]);
  assertEquals((await countTeamUse(database.sql, [TEAM])).get(TEAM)!.runningSandboxes, 1);
});

Deno.test("a pass adds what was used to its day, and forgets audit entries whose time is over", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler({ auditRetentionMs: 3_600_000 });
  const { sql } = plane.database;
  const { id } = await plane.create();
  await sql`update sandboxes set state_changed_at = '2026-03-01T00:00:00Z' where id = ${id}`;
  await plane.lifecycle.deleteSandbox(TEAM, id);
  const before = await getUsage(sql, TEAM, "2026-03-01", "2026-03-03");
  assertEquals(before.map(({ day }) => day), ["2026-03-01", "2026-03-02", "2026-03-03"]);
  const entry = { teamId: TEAM, keyId: "k", action: "a", target: "", code: "ok", traceId: "", address: "" };
  const fresh = { ...entry, id: newId(), createdAt: new Date() };
  await insertAuditRows(sql, [fresh, { ...entry, id: newId(), createdAt: new Date(Date.now() - 7_200_000) }]);
  await reconciler.pass();
  assertEquals(await sql`select from usage_intervals`.then((rows) => rows.length), 0);
  assertEquals(await getUsage(sql, TEAM, "2026-03-01", "2026-03-03"), before);
  assertEquals((await listAuditRows(sql, {})).entries, [fresh]);
});
