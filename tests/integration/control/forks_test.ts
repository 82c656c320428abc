import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { getFork, getKeptSnapshot, insertFork, listKeptSnapshots, listSandboxes, lockSandbox } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { beginCreate, beginSnapshot } from "@torpor/lifecycle";
import { ControlPlane, SPEC, TEAM } from "./control_plane.ts";

async function sandboxIds(plane: ControlPlane): Promise<string[]> {
  return (await listSandboxes(plane.database.sql, TEAM)).sandboxes.map(({ id }) => id);
}

/** Nothing of a fork is left but its source. */
async function assertOnlySource(plane: ControlPlane, sourceId: string): Promise<void> {
  assertEquals(await sandboxIds(plane), [sourceId]);
  assertEquals([...plane.host.sandboxes.keys()], [sourceId]);
  assertEquals(plane.host.kept.size, 0);
  assertEquals((await plane.database.sql`select from snapshots where state <> 'deleted'`).length, 0);
  assertEquals((await plane.database.sql`select from reservations`).length, 1);
  assertEquals((await plane.database.sql`select from forks where state = 'running'`).length, 0);
}

Deno.test("a running and a paused sandbox are forked; the children run, the source is as it was", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create({ timeoutSec: 60 });
  const { source, children, snapshot } = await plane.lifecycle.forkSandbox(TEAM, id, { count: 3 });
  assertEquals([source.id, source.state, snapshot.state, snapshot.kind], [id, "running", "deleted", "fork"]);
  assertEquals(new Set(children.map((child) => child.id)).size, 3);
  for (const child of children) {
    assertNotEquals(child.id, id);
    assertEquals([child.state, child.sourceSnapshotId, child.hostId], ["running", snapshot.id, source.hostId]);
    assertEquals([child.memoryMb, child.timeoutSec, child.env, child.metadata], [256, 60, SPEC.env, SPEC.metadata]);
  }
  assertEquals(await plane.reserved(), { vcpus: 4, memoryMb: 1024n, diskMb: 256n });
  assertEquals(plane.host.kept.size, 0, "the checkpoint is gone");
  assertEquals((await listKeptSnapshots(plane.database.sql, TEAM)).snapshots, []);

  await plane.lifecycle.pauseSandbox(TEAM, id);
  const second = await plane.lifecycle.forkSandbox(TEAM, id, { count: 1, metadata: { n: "1" }, timeoutSec: 7 });
  assertEquals([second.source.state, second.children[0]!.state], ["paused", "running"]);
  assertEquals([second.children[0]!.metadata, second.children[0]!.timeoutSec], [{ n: "1" }, 7]);
  assertEquals(await reconciler.pass(), []);
});

Deno.test("without room for all children nothing is taken and nothing is stopped", async () => {
  await using plane = await ControlPlane.start({ vcpus: 64, memoryMb: 1024n, diskMb: 100_000n });
  const { id } = await plane.create();
  const error = await assertRejects(() => plane.lifecycle.forkSandbox(TEAM, id, { count: 4 }), TorporError);
  assertEquals(error.code, "no_capacity");
  assert(error.message.includes("768 of 1024 MB memory"), error.message);
  assertEquals(plane.host.calls.map((call) => call.method), ["createSandbox"]);
  assertEquals((await plane.sandbox(id)).state, "running");
  await assertOnlySource(plane, id);
  assertEquals((await plane.lifecycle.forkSandbox(TEAM, id, { count: 3 })).children.length, 3);
});

Deno.test("a child that fails takes its siblings with it", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const [first, second] = [plane.host.hold("createSandbox"), plane.host.hold("createSandbox")];
  plane.host.inject("createSandbox", { code: "vm_start_failed" });
  const fork = assertRejects(() => plane.lifecycle.forkSandbox(TEAM, id, { count: 3 }), TorporError);
  await Promise.all([first.reached, second.reached]);
  first.release();
  second.release();
  const error = await fork;
  assertEquals(error.code, "vm_start_failed");
  assert(/child \d of 3 of sandbox/.test(error.message), error.message);
  assertEquals((await plane.sandbox(id)).state, "running");
  await assertOnlySource(plane, id);
  assertEquals(await reconciler.pass(), []);
});

Deno.test("a child whose creation has no known outcome takes its siblings with it, too", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  plane.host.inject("createSandbox", { code: "unavailable", afterWork: true });
  const error = await assertRejects(() => plane.lifecycle.forkSandbox(TEAM, id, { count: 2 }), TorporError);
  assertEquals(error.code, "unavailable");
  await assertOnlySource(plane, id);
  assertEquals(await reconciler.pass(), []);
});

Deno.test("a checkpoint that fails, or whose reply is lost, makes no child", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  plane.host.inject("createSnapshot", { code: "no_space" });
  const failed = await assertRejects(() => plane.lifecycle.forkSandbox(TEAM, id, { count: 2 }), TorporError);
  assertEquals(failed.code, "no_space");
  await assertOnlySource(plane, id);

  plane.host.inject("createSnapshot", { code: "unavailable", afterWork: true });
  const lost = await assertRejects(() => plane.lifecycle.forkSandbox(TEAM, id, { count: 2 }), TorporError);
  assertEquals([lost.code, (await plane.sandbox(id)).state], ["unavailable", "snapshotting"]);
  assertEquals(await reconciler.pass(), [
    "operation_rolled_back snapshotting>running",
    "snapshot_delete_repeated deleting>deleted",
  ]);
  await assertOnlySource(plane, id);
  assertEquals(await reconciler.pass(), []);
});

Deno.test("a host that cannot be told to delete the checkpoint is told again", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  plane.host.inject("deleteSnapshot", { code: "unavailable" });
  const { children } = await plane.lifecycle.forkSandbox(TEAM, id, { count: 1 });
  assertEquals([children[0]!.state, plane.host.kept.size], ["running", 1]);
  assertEquals(await reconciler.pass(), ["snapshot_delete_repeated deleting>deleted"]);
  assertEquals(plane.host.kept.size, 0);
});

Deno.test("a repeated Idempotency-Key answers with the same children, from every process", async () => {
  await using plane = await ControlPlane.start();
  await using other = plane.openLifecycle();
  const { id } = await plane.create();
  const options = { idempotencyKey: "k" };
  const gate = plane.host.hold("createSnapshot");
  const first = plane.lifecycle.forkSandbox(TEAM, id, { count: 2 }, options);
  await gate.reached;
  const repeats = [plane.lifecycle, other].map((lifecycle) => lifecycle.forkSandbox(TEAM, id, { count: 2 }, options));
  gate.release();
  const { children } = await first;
  for (const repeat of await Promise.all(repeats)) assertEquals(repeat.children, children);
  assertEquals((await other.forkSandbox(TEAM, id, { count: 2 }, options)).children, children);
  assertEquals(plane.host.sandboxes.size, 3);
  const mismatch = plane.lifecycle.forkSandbox(TEAM, id, { count: 3 }, options);
  assertEquals((await assertRejects(() => mismatch, TorporError)).code, "idempotency_mismatch");

  plane.host.inject("createSandbox", { code: "vm_start_failed" });
  const failing = { idempotencyKey: "fails" };
  for (const lifecycle of [plane.lifecycle, plane.lifecycle, other]) {
    const error = await assertRejects(() => lifecycle.forkSandbox(TEAM, id, { count: 1 }, failing), TorporError);
    assertEquals(error.code, "vm_start_failed");
  }
});

Deno.test("the source is deleted while it is forked: no child is left", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const gate = plane.host.hold("createSnapshot");
  const fork = assertRejects(() => plane.lifecycle.forkSandbox(TEAM, id, { count: 2 }), TorporError);
  await gate.reached;
  const deleted = plane.lifecycle.deleteSandbox(TEAM, id);
  while (plane.host.calls.at(-1)!.method !== "destroySandbox") await new Promise((resolve) => setTimeout(resolve, 1));
  gate.release();
  assertEquals([(await fork).code, await deleted], ["conflict", { confirmed: true }]);
  await reconciler.pass();
  assertEquals([plane.host.sandboxes.size, plane.host.kept.size, await sandboxIds(plane)], [0, 0, []]);
  assertEquals((await plane.database.sql`select from reservations`).length, 0);
});

/** What a service leaves behind when it dies in the middle of a fork of two. */
async function abandon(
  plane: ControlPlane,
  sourceId: string,
  until: "journal" | "checkpoint" | "a child" | "children",
) {
  const initiator = { owner: 42n };
  const childIds = [newId(), newId()];
  const host = plane.hosts.at(plane.host.address);
  const { operation, snapshot, sandbox } = await plane.database.transaction("test", async (sql) => {
    const row = (await lockSandbox(sql, TEAM, sourceId))!;
    const kept = { id: newId(), name: "fork-test", kind: "fork", platform: false } as const;
    const held = await beginSnapshot(sql, row, kept, initiator);
    const fork = { operationId: held.operation.id, teamId: TEAM, sandboxId: sourceId, snapshotId: kept.id, childIds };
    await insertFork(sql, { ...fork, owner: 42n, deadlineMs: 60_000 });
    return held;
  });
  const about = { operation, snapshot, childIds };
  if (until === "journal") return about;
  const request = { sandboxId: sourceId, operationId: operation.id, version: sandbox.version, keepSandbox: true };
  await host.createSnapshot({ ...request, snapshotId: snapshot.id });
  if (until === "checkpoint") return about;
  const spec = { ...SPEC, sourceSnapshotId: snapshot.id };
  const resources = { vcpus: 1, memoryMb: 256n, diskMb: 64n };
  await plane.scheduler.placeGroup({ sandboxIds: childIds, resources, eligibleHostIds: [plane.host.hostId] });
  for (const id of until === "a child" ? childIds.slice(1) : childIds) {
    const held = await plane.database.transaction("test", async (sql) => {
      const held = await beginCreate(sql, { id, teamId: TEAM, spec }, initiator);
      await sql`update sandboxes set state = 'starting', host_id = ${plane.host.hostId} where id = ${id}`;
      return held;
    });
    const child = { sandboxId: id, operationId: held.operation.id, version: held.operation.version };
    await host.createSandbox({ ...child, memoryMb: 256, snapshotId: snapshot.id });
  }
  return about;
}

Deno.test("a service that died in the middle of a fork: rolled back, unless all children run", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  for (const until of ["journal", "checkpoint", "a child"] as const) {
    const { operation } = await abandon(plane, id, until);
    const repairs = await reconciler.pass();
    assert(repairs.includes("fork_rolled_back >"), `${until}: ${repairs}`);
    assertEquals((await getFork(plane.database.sql, operation.id))!.errorCode, "unavailable");
    assertEquals((await plane.sandbox(id)).state, "running");
    assertEquals(await reconciler.pass(), [], until);
    await plane.database.sql`delete from reservations where expires_at is not null`;
    await assertOnlySource(plane, id);
  }

  const { operation, snapshot, childIds } = await abandon(plane, id, "children");
  assertEquals((await reconciler.pass()).sort(), [
    "fork_finished >",
    "operation_finished snapshotting>running",
    "operation_finished starting>running",
    "operation_finished starting>running",
  ]);
  assertEquals((await getFork(plane.database.sql, operation.id))!.state, "succeeded");
  assertEquals((await getKeptSnapshot(plane.database.sql, snapshot.id))!.state, "deleted");
  assertEquals((await sandboxIds(plane)).sort(), [id, ...childIds].sort());
  assertEquals(plane.host.kept.size, 0);
  assertEquals(await reconciler.pass(), []);
});
