import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { FakeHost } from "@torpor/testing/fake_host";
import { ControlPlane, TEAM, TOKEN } from "./control_plane.ts";

// One test per row of the reconciler's table; the passes are asked for, so nothing depends on time.

Deno.test("running here, running there: nothing but fresher activity", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id, version } = await plane.create();
  await plane.database.sql`update sandboxes set last_active_at = now() - interval '2 hours'`;
  plane.host.sandboxes.get(id)!.lastActiveAtUnix -= 1000;
  assertEquals(await reconciler.pass(), []);
  const row = await plane.sandbox(id);
  assertEquals(row.version, version);
  const agoMs = Date.now() - row.lastActiveAt.getTime();
  assert(agoMs > 900_000 && agoMs < 1_100_000, `${agoMs} ms ago`);
});

Deno.test("running here, paused there: the pause is taken over, then acknowledged", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  plane.host.pause(id);
  plane.host.autoPaused.add(id);
  assertEquals(await reconciler.pass(), ["adopted_pause running>paused"]);
  const row = await plane.sandbox(id);
  assertEquals([row.state, row.snapshot?.generation, row.version], ["paused", 1, 5n]);
  assertEquals(row.snapshot!.id, plane.host.sandboxes.get(id)!.snapshot!.snapshotId);
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 64n });
  assertEquals(await plane.journal(id), ["create succeeded", "pause succeeded"]);
  assertEquals(plane.host.autoPaused.size, 0);
  assertEquals(await reconciler.pass(), []);
  assertEquals((await plane.lifecycle.resumeSandbox(TEAM, id)).state, "running");
});

Deno.test("an automatic pause stays listed until the database has it", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  plane.host.pause(id);
  plane.host.autoPaused.add(id);
  let pass: Promise<string[]> | undefined;
  await plane.database.transaction("test", async (sql) => {
    await sql`update sandboxes set version = version + 1 where id = ${id}`;
    pass = reconciler.pass();
    await waitForBlockedQuery(plane);
  });
  // The sandbox changed between the judgement and the repair: nothing done, nothing acknowledged.
  assertEquals(await pass, []);
  assertEquals([(await plane.sandbox(id)).state, [...plane.host.autoPaused]], ["running", [id]]);
  assertEquals(await reconciler.pass(), ["adopted_pause running>paused"]);
  assertEquals(plane.host.autoPaused.size, 0);
});

async function waitForBlockedQuery(plane: ControlPlane): Promise<void> {
  for (;;) {
    const blocked = await plane.database.sql`
      select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    if (blocked.length > 0) return;
  }
}

Deno.test("running here, absent there: failed with vm_gone, but not within the grace period", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  plane.host.sandboxes.delete(id);
  {
    await using patient = await plane.startReconciler({ graceMs: 600_000 });
    assertEquals(await patient.pass(), []);
    assertEquals((await plane.sandbox(id)).state, "running");
  }
  await using reconciler = await plane.startReconciler();
  assertEquals((await reconciler.client.getStatus({})).repairsByKind, { vm_gone: 1n });
  const row = await plane.sandbox(id);
  assertEquals([row.state, row.reason], ["failed", "vm_gone"]);
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 0n });
});

Deno.test("its VM died and the host kept the snapshot before: paused, and said so", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  await plane.lifecycle.pauseSandbox(TEAM, id);
  await plane.lifecycle.resumeSandbox(TEAM, id);
  Object.assign(plane.host.sandboxes.get(id)!, { status: "paused", reason: "vm_gone" });
  assertEquals(await reconciler.pass(), ["vm_gone running>paused"]);
  const row = await plane.sandbox(id);
  assertEquals([row.state, row.reason, row.snapshot?.generation], ["paused", "vm_gone", 1]);
  assertEquals((await plane.journal(id)).at(-1), "pause failed vm_gone");
  const resumed = await plane.lifecycle.resumeSandbox(TEAM, id);
  assertEquals([resumed.state, resumed.reason], ["running", ""]);
});

Deno.test("its VM died before any pause: failed", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  Object.assign(plane.host.sandboxes.get(id)!, { status: "failed", reason: "pager_failed" });
  assertEquals(await reconciler.pass(), ["vm_gone running>failed"]);
  assertEquals((await plane.sandbox(id)).reason, "pager_failed");
});

Deno.test("its guest stands still because of its host's disk: running, with the reason for as long as it does", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id, version } = await plane.create();
  const standing = plane.host.sandboxes.get(id)!;
  Object.assign(standing, { reason: "no_space", guestStopped: true });
  assertEquals(await reconciler.pass(), ["guest_stopped running>running"]);
  assertEquals(await reconciler.pass(), []);
  const row = await plane.sandbox(id);
  // No operation must find itself overtaken by that.
  assertEquals([row.state, row.reason, row.version], ["running", "no_space", version]);
  // The reason that is left is that of an operation which failed meanwhile.
  standing.guestStopped = false;
  assertEquals(await reconciler.pass(), ["guest_goes_on running>running"]);
  assertEquals((await plane.sandbox(id)).reason, "");
});

Deno.test("host silent beyond the grace period: lost; back again: running, paused or failed as it says", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const [runs, pauses, dies, sleeps] = [
    await plane.create(),
    await plane.create(),
    await plane.create(),
    await plane.create(),
  ];
  await plane.lifecycle.pauseSandbox(TEAM, sleeps.id);
  await plane.host.vanish();
  await plane.silenceHost();
  const lost = await reconciler.pass();
  assertEquals(lost.sort(), [...Array(3).fill("host_lost running>lost"), "host_lost >"].sort());
  assertEquals((await plane.sandbox(runs.id)).state, "lost");
  assertEquals((await plane.sandbox(sleeps.id)).state, "paused");
  assertEquals((await plane.scheduler.listHosts({})).hosts[0]!.state, "unreachable");
  assertEquals(await reconciler.pass(), []);
  const conflict = await assertRejects(() => plane.lifecycle.pauseSandbox(TEAM, runs.id), TorporError);
  assertEquals(conflict.code, "conflict");

  plane.host.pause(pauses.id);
  plane.host.sandboxes.delete(dies.id);
  await plane.host.comeBack();
  assertEquals((await reconciler.pass()).sort(), [
    "host_returned >",
    "host_returned lost>paused",
    "host_returned lost>running",
    "vm_gone lost>failed",
  ]);
  assertEquals((await plane.sandbox(runs.id)).reason, "");
});

Deno.test("after a long stop of everything, hosts have the grace period to come back", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  await plane.host.vanish();
  await plane.silenceHost();
  await using reconciler = await plane.startReconciler({ hostGraceMs: 60_000 });
  assertEquals(await reconciler.pass(), []);
  assertEquals((await plane.sandbox(id)).state, "running");
});

Deno.test("a host that is heard again takes sandboxes at once, before the next pass", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  await plane.host.vanish();
  await plane.silenceHost();
  assertEquals(await reconciler.pass(), ["host_lost >"]);
  await plane.host.comeBack();
  assertEquals((await assertRejects(() => plane.create(), TorporError)).code, "no_capacity");
  await plane.scheduler.heartbeat({ hostId: plane.host.hostId });
  assertEquals((await plane.create()).state, "running");
});

Deno.test("a host that answers is not silent, whatever became of its heartbeats", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  await plane.silenceHost();
  assertEquals(await reconciler.pass(), []);
  assertEquals((await plane.sandbox(id)).state, "running");
});

Deno.test("another agent at a host's address: nothing is judged by its list", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler({ hostGraceMs: 600_000 });
  await using stranger = await FakeHost.start(TOKEN);
  const { id } = await plane.create();
  await plane.database.sql`update hosts set address = ${stranger.address}`;
  assertEquals(await reconciler.pass(), []);
  assertEquals((await plane.sandbox(id)).state, "running");
});

Deno.test("paused here, gone there: an alarm and failed, never an older generation", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const [gone, older, corrupt] = [await plane.create(), await plane.create(), await plane.create()];
  for (const { id } of [gone, older, corrupt]) {
    await plane.lifecycle.pauseSandbox(TEAM, id);
    await plane.lifecycle.resumeSandbox(TEAM, id);
    await plane.lifecycle.pauseSandbox(TEAM, id);
  }
  assertEquals(await reconciler.pass(), []);
  plane.host.sandboxes.delete(gone.id);
  const sandbox = plane.host.sandboxes.get(older.id)!;
  sandbox.snapshot = { ...sandbox.snapshot, generation: 1 };
  plane.host.sandboxes.get(corrupt.id)!.reason = "snapshot_corrupt";
  assertEquals(await reconciler.pass(), Array(3).fill("snapshot_missing paused>failed"));
  assertEquals((await plane.sandbox(gone.id)).reason, "snapshot_missing");
  assertEquals((await plane.sandbox(corrupt.id)).reason, "snapshot_corrupt");
});

Deno.test("paused here, running there: a resume that was given up has reached the host after all", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  await plane.lifecycle.pauseSandbox(TEAM, id);
  plane.host.sandboxes.get(id)!.status = "running";
  assertEquals(await reconciler.pass(), ["adopted_resume paused>running"]);
  assertEquals(await plane.reserved(), { vcpus: 1, memoryMb: 256n, diskMb: 64n });
  // And paused again there meanwhile: written down step by step.
  plane.host.pause(id);
  assertEquals(await reconciler.pass(), ["adopted_pause running>paused"]);
});

Deno.test("no row or deleted here, present there: destroyed after the grace period", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const deleted = await plane.create();
  const copy = { ...plane.host.sandboxes.get(deleted.id)!, createdAtUnix: 1 };
  await plane.lifecycle.deleteSandbox(TEAM, deleted.id);
  const young = newId();
  plane.host.sandboxes.set(deleted.id, { ...copy });
  plane.host.sandboxes.set(newId(), { ...copy, status: "paused" });
  plane.host.sandboxes.set(young, { ...copy, createdAtUnix: Math.floor(Date.now() / 1000) + 60 });
  assertEquals((await reconciler.pass()).sort(), [
    "orphan_destroyed >",
    "orphan_destroyed deleted>deleted",
  ]);
  assertEquals([...plane.host.sandboxes.keys()], [young]);
});

Deno.test("idle beyond its timeout and not paused by its host: paused by the sweep", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler({ intervalMs: 100, awaitFirstPass: false });
  const idle = await plane.create({ timeoutSec: 60 });
  const busy = await plane.create({ timeoutSec: 3600 });
  const never = await plane.create();
  plane.host.sandboxes.get(idle.id)!.lastActiveAtUnix = 0;
  await plane.database.sql`update sandboxes set last_active_at = now() - interval '10 minutes'`;
  await reconciler.pass();
  await plane.lifecycle.pauseSandbox(TEAM, idle.id); // Joins the sweep's pause.
  assertEquals((await plane.sandbox(busy.id)).state, "running");
  assertEquals((await plane.sandbox(never.id)).state, "running");
  assertEquals((await plane.lifecycle.resumeSandbox(TEAM, idle.id)).state, "running");
  assertEquals((await reconciler.client.getStatus({})).repairsByKind, { idle_paused: 1n });
});

Deno.test("reservations that nobody used end; those of paused sandboxes shrink to their disk", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  await plane.lifecycle.pauseSandbox(TEAM, id);
  const resources = { vcpus: 1, memoryMb: 256n, diskMb: 64n };
  await plane.scheduler.place({ sandboxId: id, resources });
  await plane.scheduler.place({ sandboxId: newId(), resources });
  assertEquals(await plane.reserved(), { vcpus: 2, memoryMb: 512n, diskMb: 128n });
  await plane.database
    .sql`update reservations set expires_at = now() - interval '1 second' where expires_at is not null`;
  assertEquals(await reconciler.pass(), Array(2).fill("reservation_expired >"));
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 64n });
});

Deno.test("one reconciler leads; when its connection ends, the other takes over", async () => {
  await using plane = await ControlPlane.start();
  await using first = await plane.startReconciler();
  {
    await using second = await plane.startReconciler({ awaitFirstPass: false });
    assertEquals((await assertRejects(() => second.pass(), TorporError)).code, "not_leader");
    assertEquals((await first.client.getStatus({})).leader, true);
    assertEquals((await second.client.getStatus({})).leader, false);
    await plane.test.terminateConnections();
    assertEquals(await second.pass(), []);
    assertEquals((await second.client.getStatus({})).leader, true);
    assertEquals((await assertRejects(() => first.pass(), TorporError)).code, "not_leader");
  }
  assertEquals(await first.pass(), []);
});
