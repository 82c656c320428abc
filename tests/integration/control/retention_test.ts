import { assert, assertEquals, assertRejects } from "@std/assert";
import { getKeptSnapshot, listHosts } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { Lifecycle, type SnapshotRequest } from "@torpor/lifecycle";
import { ControlPlane, TEAM } from "./control_plane.ts";

async function take(plane: ControlPlane, sandboxId: string, name: string, more: Partial<SnapshotRequest> = {}) {
  return await (await plane.lifecycle.startSnapshot(TEAM, { sandboxId, name, ...more })).done;
}

/** Makes it an hour later for one snapshot. */
async function anHourLater(plane: ControlPlane, id: string): Promise<void> {
  await plane.database.sql`
    update snapshots set expires_at = expires_at - interval '1 hour', state_changed_at = state_changed_at - interval '1 hour'
    where id = ${id}`;
}

async function stateOf(plane: ControlPlane, id: string): Promise<string> {
  return (await getKeptSnapshot(plane.database.sql, id))!.state;
}

async function storedMb(plane: ControlPlane): Promise<bigint> {
  return (await listHosts(plane.database.sql))[0]!.storedDiskMb;
}

Deno.test("a snapshot whose time is over is deleted on its host, and only that one; what was spawned goes on", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const short = await take(plane, id, "short", { expiresInSec: 1800 });
  const long = await take(plane, id, "long", { expiresInSec: 7200 });
  const forEver = await take(plane, id, "for-ever");
  assertEquals(short.expiresAt!.getTime() - short.createdAt.getTime() >= 1_799_000, true);
  assertEquals(forEver.expiresAt, null);
  const spawned = await plane.create({ sourceSnapshotId: short.id });
  assertEquals(await reconciler.pass(), [], "its time is not over");
  for (const { id } of [short, long, forEver]) await anHourLater(plane, id);
  assertEquals(await reconciler.pass(), ["snapshot_expired ready>deleted"]);
  assertEquals([...plane.host.kept.keys()].sort(), [long.id, forEver.id].sort());
  assertEquals((await plane.sandbox(spawned.id)).state, "running");
  assertEquals(await reconciler.pass(), []);
  assertEquals((await reconciler.client.getStatus({})).repairsByKind.snapshot_expired, 1n);
  assertEquals((await take(plane, id, "short")).state, "ready", "its name is free");
});

Deno.test("a snapshot's time is changed while it is alive, and not when its deletion has begun", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const snapshot = await take(plane, id, "s", { expiresInSec: 60 });
  const kept = await plane.lifecycle.setSnapshotExpiry(snapshot.id, 0);
  assertEquals(kept.expiresAt, null);
  await anHourLater(plane, snapshot.id);
  assertEquals(await reconciler.pass(), []);
  assert((await plane.lifecycle.setSnapshotExpiry(snapshot.id, 60)).expiresAt instanceof Date);
  await anHourLater(plane, snapshot.id);
  assertEquals(await reconciler.pass(), ["snapshot_expired ready>deleted"]);
  const late = await assertRejects(() => plane.lifecycle.setSnapshotExpiry(snapshot.id, 60), TorporError);
  assertEquals(late.code, "conflict");
  const nowhere = await assertRejects(() => plane.lifecycle.setSnapshotExpiry("nowhere", 60), TorporError);
  assertEquals(nowhere.code, "snapshot_not_found");
});

Deno.test("one that is held, or whose host does not confirm, is left for a later pass", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const snapshot = await take(plane, id, "s", { expiresInSec: 60 });
  await anHourLater(plane, snapshot.id);
  await plane.database.transaction("hold", async (sql) => {
    await sql`select from snapshots where id = ${snapshot.id} for update`;
    assertEquals(await reconciler.pass(), []);
  });
  plane.host.inject("deleteSnapshot", { code: "unavailable" });
  assertEquals(await reconciler.pass(), ["snapshot_expired ready>deleting"]);
  assertEquals(plane.host.kept.has(snapshot.id), true);
  assertEquals(await reconciler.pass(), ["snapshot_delete_repeated deleting>deleted"]);
  assertEquals(plane.host.kept.size, 0);
});

Deno.test("on a host that is away: its name is free at once, its data goes when the host is back", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const snapshot = await take(plane, id, "s", { expiresInSec: 60 });
  await plane.lifecycle.pauseSandbox(TEAM, id);
  await anHourLater(plane, snapshot.id);
  await plane.host.vanish();
  await plane.silenceHost();
  assertEquals((await reconciler.pass()).sort(), ["host_lost >", "snapshot_expired ready>deleting"]);
  assertEquals(await reconciler.pass(), []);
  await plane.host.comeBack();
  assertEquals((await reconciler.pass()).sort(), ["host_returned >", "snapshot_delete_repeated deleting>deleted"]);
  assertEquals(plane.host.kept.size, 0);
});

Deno.test("a snapshot that is still being taken when its time is over is deleted when it is ready", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const gate = plane.host.hold("createSnapshot");
  const started = await plane.lifecycle.startSnapshot(TEAM, { sandboxId: id, name: "s", expiresInSec: 60 });
  await gate.reached;
  await anHourLater(plane, started.snapshot.id);
  assertEquals(await reconciler.pass(), []);
  gate.release();
  assertEquals((await started.done).state, "ready");
  assertEquals(await reconciler.pass(), ["snapshot_expired ready>deleted"]);
});

Deno.test("failed snapshots are shown for a time, then deleted", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler({ failedRetentionMs: 1_800_000 });
  const { id } = await plane.create();
  const fail = async (name: string) => {
    plane.host.inject("createSnapshot", { code: "no_space" });
    const { snapshot, done } = await plane.lifecycle.startSnapshot(TEAM, { sandboxId: id, name });
    await assertRejects(() => done, TorporError);
    return snapshot.id;
  };
  const [old, young] = [await fail("old"), await fail("young")];
  await anHourLater(plane, old);
  assertEquals(await reconciler.pass(), ["snapshot_expired failed>deleted"]);
  assertEquals([await stateOf(plane, old), await stateOf(plane, young)], ["deleted", "failed"]);
});

Deno.test("the deployment's retention is for snapshots of teams that name none; it is no part of what a key stands for", async () => {
  await using plane = await ControlPlane.start();
  const { database, scheduler, hosts } = plane;
  const options = { database, scheduler, hosts: (address: string) => hosts.at(address) };
  await using lifecycle = new Lifecycle({ ...options, snapshotRetentionSec: 3600 });
  const { id } = await plane.create();
  const key = { idempotencyKey: "k" };
  const take = async (request: Partial<SnapshotRequest>, options = {}) =>
    (await lifecycle.startSnapshot(TEAM, { sandboxId: id, ...request }, options)).done;
  const plain = await take({}, key);
  const left = plain.expiresAt!.getTime() - plain.createdAt.getTime();
  assert(left > 3_590_000 && left < 3_700_000, `${left} ms`);
  assertEquals((await take({ expiresInSec: 0 })).expiresAt, null);
  assertEquals((await take({ name: "p", platform: true })).expiresAt, null);
  const again = await plane.lifecycle.startSnapshot(TEAM, { sandboxId: id }, key);
  assertEquals((await again.done).id, plain.id, "the same request, whatever the default is by now");
  const other = plane.lifecycle.startSnapshot(TEAM, { sandboxId: id, expiresInSec: 60 }, key);
  assertEquals((await assertRejects(() => other, TorporError)).code, "idempotency_mismatch");
});

Deno.test("a host full of snapshots takes nothing new; what is there resumes, and a deletion makes room again", async () => {
  // Disk is over-committed by 4, but what snapshots store is really there: 300 MiB hold one of 256 MiB and 44 * 4 MiB.
  await using plane = await ControlPlane.start({ vcpus: 64, memoryMb: 65_536n, diskMb: 300n });
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  assertEquals(await storedMb(plane), 0n);
  const snapshot = await take(plane, id, "big");
  assertEquals([Number(snapshot.sizes!.sizeBytes), await storedMb(plane)], [256 * 2 ** 20, 256n]);
  assertEquals(await plane.reserved(), { vcpus: 1, memoryMb: 256n, diskMb: 64n });
  await plane.create();
  const full = await assertRejects(() => plane.create(), TorporError);
  assertEquals(full.code, "no_capacity");
  assert(full.message.includes("48 of 64 MB disk free"), full.message);
  const spawn = await assertRejects(() => plane.create({ sourceSnapshotId: snapshot.id }), TorporError);
  assertEquals(spawn.code, "no_capacity");
  await plane.lifecycle.pauseSandbox(TEAM, id);
  await take(plane, id, "more");
  assertEquals(await storedMb(plane), 512n, "nobody asks before a snapshot is taken: its host knows its own disk");
  assertEquals((await plane.lifecycle.resumeSandbox(TEAM, id)).state, "running", "its disk is there already");

  plane.host.inject("deleteSnapshot", { code: "unavailable" });
  assertEquals(await plane.lifecycle.deleteSnapshot(snapshot.id), { confirmed: false });
  assertEquals(await storedMb(plane), 512n, "not before the host has confirmed");
  assertEquals(await reconciler.pass(), ["snapshot_delete_repeated deleting>deleted"]);
  assertEquals(await storedMb(plane), 256n);
  await plane.database.sql`update snapshots set state = 'failed', reason = 'snapshot_missing' where state = 'ready'`;
  assertEquals(await storedMb(plane), 0n);
  assertEquals((await plane.create()).state, "running");
});
