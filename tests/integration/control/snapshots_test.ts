import { assert, assertEquals, assertRejects } from "@std/assert";
import { findKeptSnapshot, getKeptSnapshot, getSandboxes, listKeptSnapshots, lockSandbox } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { beginSnapshot } from "@torpor/lifecycle";
import { ControlPlane, SPEC, TEAM } from "./control_plane.ts";

async function take(plane: ControlPlane, sandboxId: string, name: string) {
  return await (await plane.lifecycle.startSnapshot(TEAM, { sandboxId, name })).done;
}

/** A snapshot's state, reason, and whether the host has it. */
async function stand(plane: ControlPlane, id: string) {
  const row = (await getKeptSnapshot(plane.database.sql, id))!;
  return [row.state, row.reason, plane.host.kept.has(id)];
}

Deno.test("a snapshot of a running and of a paused sandbox: both go on as they were", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const first = await take(plane, id, "first");
  assertEquals([first.state, first.sizes?.stoppedUs, first.memoryMb, first.sandboxId], ["ready", 4200n, 256, id]);
  const running = await plane.sandbox(id);
  assertEquals([running.state, running.version, running.accelerator], ["running", 5n, "tcg"]);
  assertEquals(await plane.reserved(), { vcpus: 1, memoryMb: 256n, diskMb: 64n });

  const { pausedAt } = await plane.lifecycle.pauseSandbox(TEAM, id);
  const second = await take(plane, id, "second");
  assertEquals([second.state, second.sizes?.stoppedUs, second.sizes?.generation], ["ready", 0n, 1]);
  const paused = await plane.sandbox(id);
  assertEquals([paused.state, paused.pausedAt], ["paused", pausedAt]);
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 64n });
  assertEquals(await plane.journal(id), [
    "create succeeded",
    "snapshot succeeded",
    "pause succeeded",
    "snapshot succeeded",
  ]);
  assertEquals(plane.host.calls.map((call) => call.request.version), [2n, 4n, 6n, 8n]);
  const { snapshots } = await listKeptSnapshots(plane.database.sql, TEAM);
  assertEquals(snapshots.map(({ name }) => name), ["second", "first"]);
  assertEquals(await reconciler.pass(), []);
});

Deno.test("a sandbox is spawned on the snapshot's host; a snapshot that is not ready, or foreign, spawns none", async () => {
  await using plane = await ControlPlane.start({ vcpus: 4, memoryMb: 600n, diskMb: 100_000n });
  const { id } = await plane.create();
  const snapshot = await take(plane, id, "base-of-many");
  const spawned = await plane.create({ sourceSnapshotId: snapshot.id });
  assertEquals([spawned.state, spawned.sourceSnapshotId, spawned.hostId], ["running", snapshot.id, plane.host.hostId]);
  const full = await assertRejects(() => plane.create({ sourceSnapshotId: snapshot.id }), TorporError);
  assertEquals(full.code, "no_capacity");
  assert(full.message.startsWith("the host that holds the snapshot has no room: fake: "), full.message);
  await plane.silenceHost();
  const away = await assertRejects(() => plane.create({ sourceSnapshotId: snapshot.id }), TorporError);
  assertEquals(away.code, "host_unreachable");

  const strange = plane.lifecycle.createSandbox("strangers", { ...SPEC, sourceSnapshotId: snapshot.id });
  assertEquals((await assertRejects(() => strange, TorporError)).code, "snapshot_not_found");
  assertEquals(await plane.lifecycle.deleteSnapshot(snapshot.id), { confirmed: true });
  const gone = await assertRejects(() => plane.create({ sourceSnapshotId: snapshot.id }), TorporError);
  assertEquals(gone.code, "snapshot_not_found");
  assertEquals((await plane.sandbox(spawned.id)).state, "running", "what was spawned goes on");
});

Deno.test("of concurrent snapshots with one name exactly one is made; the name is free again after a delete", async () => {
  await using plane = await ControlPlane.start();
  const sandboxes = await Promise.all(Array.from({ length: 8 }, () => plane.create()));
  const results = await Promise.allSettled(sandboxes.map(({ id }) => take(plane, id, "one")));
  const made = results.filter((result) => result.status === "fulfilled");
  for (const result of results) {
    if (result.status === "rejected") assertEquals((result.reason as TorporError).code, "already_exists");
  }
  assertEquals([made.length, plane.host.kept.size], [1, 1]);
  for (const { id } of sandboxes) assertEquals((await plane.sandbox(id)).state, "running");
  assertEquals(await plane.lifecycle.deleteSnapshot(made[0]!.value.id), { confirmed: true });
  const again = await take(plane, sandboxes[0]!.id, "one");
  assertEquals((await findKeptSnapshot(plane.database.sql, TEAM, "one"))?.id, again.id);
});

Deno.test("a repeated Idempotency-Key answers with the first snapshot", async () => {
  await using plane = await ControlPlane.start();
  await using other = plane.openLifecycle();
  const { id } = await plane.create();
  const options = { idempotencyKey: "k" };
  const gate = plane.host.hold("createSnapshot");
  const first = plane.lifecycle.startSnapshot(TEAM, { sandboxId: id, name: "s" }, options);
  await gate.reached;
  const second = await other.startSnapshot(TEAM, { sandboxId: id, name: "s" }, options);
  gate.release();
  const snapshot = await (await first).done;
  assertEquals(await second.done, snapshot);
  const mismatch = plane.lifecycle.startSnapshot(TEAM, { sandboxId: id, name: "other" }, options);
  assertEquals((await assertRejects(() => mismatch, TorporError)).code, "idempotency_mismatch");
});

Deno.test("pause and resume wait for a checkpoint, another snapshot is refused, delete takes its place", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const gate = plane.host.hold("createSnapshot");
  const taking = take(plane, id, "a");
  await gate.reached;
  const refused = await assertRejects(() => take(plane, id, "b"), TorporError);
  assertEquals(refused.code, "conflict");
  assert(refused.message.includes("is snapshotting: operation"), refused.message);
  const pause = plane.lifecycle.pauseSandbox(TEAM, id);
  gate.release();
  assertEquals([(await taking).state, (await pause).state], ["ready", "paused"]);

  const second = plane.host.hold("createSnapshot");
  const lost = assertRejects(() => take(plane, id, "c"), TorporError);
  await second.reached;
  const deleted = plane.lifecycle.deleteSandbox(TEAM, id);
  while (plane.host.calls.at(-1)!.method !== "destroySandbox") await new Promise((resolve) => setTimeout(resolve, 1));
  second.release();
  assertEquals(await deleted, { confirmed: true });
  assertEquals((await lost).code, "conflict");
  assertEquals(await reconciler.pass(), ["snapshot_delete_repeated deleting>deleted"]);
  assertEquals([...plane.host.kept.values()].map(({ name }) => name), ["a"]);
});

Deno.test("deleted while it is taken: the sandbox goes on, the snapshot goes, and its client is told", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const gate = plane.host.hold("createSnapshot");
  const started = await plane.lifecycle.startSnapshot(TEAM, { sandboxId: id, name: "s" });
  await gate.reached;
  assertEquals(await plane.lifecycle.deleteSnapshot(started.snapshot.id), { confirmed: false });
  assertEquals(await reconciler.pass(), [], "not before its operation has ended");
  gate.release();
  assertEquals((await assertRejects(() => started.done, TorporError)).code, "conflict");
  assertEquals((await plane.sandbox(id)).state, "running");
  assertEquals(await reconciler.pass(), ["snapshot_delete_repeated deleting>deleted"]);
  assertEquals(await stand(plane, started.snapshot.id), ["deleted", "", false]);
});

Deno.test("a host that fails: the sandbox is as it was, the snapshot failed with the reason, its name is free", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  plane.host.inject("createSnapshot", { code: "no_space" });
  const started = await plane.lifecycle.startSnapshot(TEAM, { sandboxId: id, name: "s" });
  assertEquals((await assertRejects(() => started.done, TorporError)).code, "no_space");
  assertEquals((await plane.sandbox(id)).state, "running");
  assertEquals(await stand(plane, started.snapshot.id), ["failed", "no_space", false]);
  assertEquals((await take(plane, id, "s")).state, "ready");
  assertEquals(await plane.lifecycle.deleteSnapshot(started.snapshot.id), { confirmed: true });
  assertEquals(await reconciler.pass(), []);
});

Deno.test("lost replies: what the host has made is found, what it has removed is confirmed", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  plane.host.inject("createSnapshot", { code: "unavailable", afterWork: true });
  const started = await plane.lifecycle.startSnapshot(TEAM, { sandboxId: id, name: "s" });
  assertEquals((await assertRejects(() => started.done, TorporError)).code, "unavailable");
  assertEquals([(await plane.sandbox(id)).state, (await stand(plane, started.snapshot.id))[0]], [
    "snapshotting",
    "creating",
  ]);
  assertEquals(await reconciler.pass(), ["operation_finished snapshotting>running"]);
  assertEquals(await stand(plane, started.snapshot.id), ["ready", "", true]);

  plane.host.inject("deleteSnapshot", { code: "unavailable", afterWork: true });
  assertEquals(await plane.lifecycle.deleteSnapshot(started.snapshot.id), { confirmed: false });
  assertEquals(await reconciler.pass(), ["snapshot_delete_repeated deleting>deleted"]);
  assertEquals(await reconciler.pass(), []);
});

for (const before of ["running", "paused"] as const) {
  Deno.test(`died before and after the host call, of a ${before} sandbox`, async () => {
    await using plane = await ControlPlane.start();
    await using reconciler = await plane.startReconciler();
    const row = await plane.create();
    if (before === "paused") await plane.lifecycle.pauseSandbox(TEAM, row.id);
    const begin = (name: string) =>
      plane.database.transaction("test", async (sql) => {
        const locked = (await lockSandbox(sql, TEAM, row.id))!;
        return beginSnapshot(sql, locked, { id: newId(), name, kind: "named", platform: false }, { owner: 42n });
      });
    const lost = await begin("lost");
    assertEquals(await reconciler.pass(), [`operation_rolled_back snapshotting>${before}`]);
    assertEquals(await stand(plane, lost.snapshot.id), ["failed", "unavailable", false]);

    const { operation, snapshot } = await begin("kept");
    const request = { sandboxId: row.id, operationId: operation.id, version: operation.version, keepSandbox: true };
    await plane.hosts.at(plane.host.address).createSnapshot({ ...request, snapshotId: snapshot.id, name: "kept" });
    assertEquals(await reconciler.pass(), [`operation_finished snapshotting>${before}`]);
    assertEquals(await stand(plane, snapshot.id), ["ready", "", true]);
    // The call that was given up arrives after all: nobody knows what it makes.
    await plane.hosts.at(plane.host.address).createSnapshot({
      ...{ sandboxId: row.id, operationId: lost.operation.id, snapshotId: lost.snapshot.id, keepSandbox: true },
    });
    assertEquals(await reconciler.pass(), ["snapshot_orphan_deleted failed>failed"]);
    assertEquals([...plane.host.kept.keys()], [snapshot.id]);
  });
}

Deno.test("ready here, absent there: an alarm and failed; there and unknown here: deleted after the grace period", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const snapshot = await take(plane, id, "s");
  const kept = plane.host.kept.get(snapshot.id)!;
  plane.host.kept.delete(snapshot.id);
  assertEquals(await reconciler.pass(), ["snapshot_missing ready>failed"]);
  assertEquals(await stand(plane, snapshot.id), ["failed", "snapshot_missing", false]);
  const [old, young] = [newId(), newId()];
  plane.host.kept.set(old, { ...kept, snapshot: { ...kept.snapshot, snapshotId: old, createdAtUnixMs: 1n } });
  const later = BigInt(Date.now() + 60_000);
  plane.host.kept.set(young, { ...kept, snapshot: { ...kept.snapshot, snapshotId: young, createdAtUnixMs: later } });
  assertEquals(await reconciler.pass(), ["snapshot_orphan_deleted >"]);
  assertEquals([...plane.host.kept.keys()], [young]);
});

Deno.test("ready here, damaged there: failed with the host's reason; the data stays until the snapshot is deleted", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const [damaged, good] = [await take(plane, id, "damaged"), await take(plane, id, "good")];
  const kept = plane.host.kept.get(damaged.id)!;
  plane.host.kept.set(damaged.id, { ...kept, reason: "snapshot_corrupt" });
  assertEquals(await reconciler.pass(), ["snapshot_damaged ready>failed"]);
  assertEquals(await stand(plane, damaged.id), ["failed", "snapshot_corrupt", true]);
  assertEquals((await stand(plane, good.id))[0], "ready");
  // Found good again, as after a repair: it is not taken for an orphan.
  plane.host.kept.set(damaged.id, kept);
  assertEquals(await reconciler.pass(), []);
  assertEquals(await plane.lifecycle.deleteSnapshot(damaged.id), { confirmed: true });
  assertEquals([...plane.host.kept.keys()], [good.id]);
});

Deno.test("the host goes silent during a checkpoint: lost; back again, the snapshot is found or failed", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const [made, unmade] = [await plane.create(), await plane.create()];
  plane.host.inject("createSnapshot", { code: "unavailable", afterWork: true });
  await assertRejects(() => take(plane, made.id, "made"), TorporError);
  plane.host.inject("createSnapshot", { code: "unavailable" });
  await assertRejects(() => take(plane, unmade.id, "unmade"), TorporError);
  await plane.host.vanish();
  await plane.silenceHost();
  assertEquals((await reconciler.pass()).sort(), ["host_lost >", ...Array(2).fill("host_lost snapshotting>lost")]);
  await plane.host.comeBack();
  assertEquals((await reconciler.pass()).sort(), [
    "host_returned >",
    "host_returned lost>running",
    "host_returned lost>running",
    "snapshot_adopted creating>ready",
    "snapshot_failed creating>failed",
  ]);
  assertEquals((await getSandboxes(plane.database.sql, [made.id, unmade.id])).map(({ state }) => state), [
    "running",
    "running",
  ]);
});

Deno.test("a platform snapshot is everybody's to spawn from; names are unique among those of the platform", async () => {
  await using plane = await ControlPlane.start();
  const { sql } = plane.database;
  await sql`insert into teams (id, name) values ('others', 'others')`;
  const { id } = await plane.create();
  const { done } = await plane.lifecycle.startSnapshot(TEAM, { sandboxId: id, name: "python", platform: true });
  const snapshot = await done;
  assertEquals((await findKeptSnapshot(sql, "others", "python"))?.id, snapshot.id);
  assertEquals((await listKeptSnapshots(sql, "others")).snapshots.length, 1);
  const spec = { ...SPEC, sourceSnapshotId: snapshot.id };
  const spawned = await plane.lifecycle.createSandbox("others", spec);
  assertEquals(spawned.teamId, "others");
  const own = await plane.lifecycle.startSnapshot("others", { sandboxId: spawned.id, name: "python" });
  assertEquals((await findKeptSnapshot(sql, "others", "python"))?.id, (await own.done).id, "its own comes first");
  const twin = plane.lifecycle.startSnapshot("others", { sandboxId: spawned.id, name: "python", platform: true });
  assertEquals((await assertRejects(() => twin, TorporError)).code, "already_exists");
});

Deno.test("pages of snapshots show each once, newest first", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  const names = ["a", "b", "c", "d", "e"];
  for (const name of names) await take(plane, id, name);
  const seen: string[] = [];
  let cursor = "";
  do {
    const page = await listKeptSnapshots(plane.database.sql, TEAM, { limit: 2, cursor });
    seen.push(...page.snapshots.map(({ name }) => name));
    cursor = page.nextCursor;
  } while (cursor !== "");
  assertEquals(seen, names.reverse());
});
