import { assert, assertEquals } from "@std/assert";
import { newId } from "@torpor/ids";
import { ControlPlane, TEAM } from "./control_plane.ts";

// What a pass asks for and compares: changes, one page of the rest, and everything when changes were missed.

/** How many rows the reconciler's last question has brought from the host. */
function lastQuestion(plane: ControlPlane) {
  const { epoch, sinceRevision, pageSize, sandboxIds } = plane.host.lists.at(-1)!;
  return { since: epoch === "" ? undefined : sinceRevision, pageSize, named: sandboxIds.length };
}

Deno.test("the first pass compares everything, later ones ask for changes", async () => {
  await using plane = await ControlPlane.start();
  await plane.create();
  await using reconciler = await plane.startReconciler();
  const [question, ...pages] = plane.host.lists.splice(0);
  assertEquals([question!.epoch, pages[0]!.pageSize], ["", 500]);
  await settle(plane, reconciler.pass);
  const { id } = await plane.create();
  await reconciler.pass();
  assertEquals(lastQuestion(plane).named, 1);
  assert(lastQuestion(plane).since !== undefined);
  plane.host.pause(id);
  assertEquals(await reconciler.pass(), ["adopted_pause running>paused"]);
});

Deno.test("after a restart of the agent everything is compared: its changes count from its start", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  await settle(plane, reconciler.pass);
  plane.host.sandboxes.delete(id);
  plane.host.forgetChanges();
  assertEquals(await reconciler.pass(), ["vm_gone running>failed"]);
  assertEquals(lastQuestion(plane), { since: undefined, pageSize: 500, named: 0 });
});

Deno.test("a change that no list has told is found by the page that goes round", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  await settle(plane, reconciler.pass);
  plane.host.hideChanges(id);
  plane.host.sandboxes.get(id)!.status = "failed";
  assertEquals(await reconciler.pass(), ["vm_gone running>failed"]);
});

Deno.test("a row that was changed behind the services' back is found by the page that goes round", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  await settle(plane, reconciler.pass);
  await plane.database.sql`update sandboxes set state = 'deleted', deleted_at = now() where id = ${id}`;
  plane.host.sandboxes.get(id)!.createdAtUnix = 1;
  assertEquals(await reconciler.pass(), ["orphan_destroyed deleted>deleted"]);
});

Deno.test("a young orphan is looked at again until it is old enough, though nothing about it changes", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler({ graceMs: 60_000 });
  const id = newId();
  await plane.create();
  const [one] = plane.host.sandboxes.values();
  plane.host.sandboxes.set(id, { ...one!, createdAtUnix: Math.floor(Date.now() / 1000) });
  assertEquals(await reconciler.pass(), []);
  assertEquals(await reconciler.pass(), []);
  assert(plane.host.lists.at(-1)!.sandboxIds.includes(id));
});

Deno.test("a repair that could not be done is tried again by the next pass", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  await plane.create();
  const id = newId();
  const [one] = plane.host.sandboxes.values();
  plane.host.sandboxes.set(id, { ...one!, createdAtUnix: 1 });
  plane.host.inject("destroySandbox", { code: "internal" });
  assertEquals(await reconciler.pass(), []);
  assertEquals(await reconciler.pass(), ["orphan_destroyed >"]);
});

Deno.test("more sandboxes than a page holds: all are compared after a gap", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  await plane.database.sql`
    insert into sandboxes (id, team_id, state, host_id, template, vcpus, memory_mb, disk_size_mb, timeout_sec,
      state_changed_at)
    select lpad(n::text, 20, '0'), ${TEAM}, 'running', ${plane.host.hostId}, 'base', 1, 128, 64, 0, now() - interval '1 hour'
    from generate_series(1, 1201) n`;
  const present = {
    status: "running",
    version: 1n,
    operationId: "",
    generation: 0,
    reason: "",
    networkRevision: 0n,
  } as const;
  const times = { createdAtUnix: 1, lastActiveAtUnix: 1, memoryMb: 128 };
  for (let n = 1; n <= 1_200; n++) {
    plane.host.sandboxes.set(String(n).padStart(20, "0"), { ...present, ...times });
  }
  plane.host.forgetChanges();
  plane.host.lists.length = 0;
  assertEquals(await reconciler.pass(), ["vm_gone running>failed"]);
  assertEquals(plane.host.lists.map(({ pageSize }) => pageSize), [500, 500, 500, 500]);
  assertEquals((await plane.sandbox("00000000000000001201")).reason, "vm_gone");
});

Deno.test("snapshots: everything at first and after a restart of the agent, then only what has changed", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const names = ["a", "b", "c"];
  const [a, b, c] = await Promise.all(names.map(() => plane.create())).then(async (sources) => {
    const taken = sources.map(({ id: sandboxId }, n) =>
      plane.lifecycle.startSnapshot(TEAM, { sandboxId, name: names[n] })
    );
    return await Promise.all(taken.map(async (one) => (await (await one).done).id));
  });
  const questions = () =>
    plane.host.snapshotLists.splice(0).map(({ epoch, snapshotIds }) => [epoch !== "", snapshotIds]);
  const age = () => plane.database.sql`update snapshots set state_changed_at = now() - interval '1 hour'`;
  await reconciler.pass();
  await age();
  await reconciler.pass();
  questions();
  assertEquals(await reconciler.pass(), []);
  assertEquals(questions(), [[true, []]], "nothing is asked for, as nothing has changed");

  // Changed there, changed here, ceased to exist there.
  plane.host.kept.set(a!, { ...plane.host.kept.get(a!)!, reason: "snapshot_corrupt" });
  plane.host.kept.delete(b!);
  await plane.database.sql`update snapshots set state = 'deleting', state_changed_at = now() - interval '1 minute'
    where id = ${c!}`;
  const repairs = await reconciler.pass();
  const expected = [
    "snapshot_damaged ready>failed",
    "snapshot_delete_repeated deleting>deleted",
    "snapshot_missing ready>failed",
  ];
  assertEquals(repairs.toSorted(), expected);
  assertEquals(questions(), [[true, [c]]]);

  // What nobody knows, too young to be judged, is looked at until it is old enough.
  const orphan = newId();
  const [other] = plane.host.kept.values();
  const createdAtUnixMs = BigInt(Date.now() + 60_000);
  plane.host.kept.set(orphan, { ...other!, snapshot: { ...other!.snapshot, snapshotId: orphan, createdAtUnixMs } });
  assertEquals(await reconciler.pass(), []);
  await age();
  assertEquals(await reconciler.pass(), []);
  assert(plane.host.snapshotLists.at(-1)!.snapshotIds.includes(orphan));
  questions();

  // A restarted agent knows no changes: the database's row of what it has lost meanwhile is found all the same.
  const { done } = await plane.lifecycle.startSnapshot(TEAM, { sandboxId: id, name: "d" });
  const d = (await done).id;
  await age();
  await reconciler.pass();
  questions();
  plane.host.kept.delete(d);
  plane.host.forgetChanges();
  assertEquals(await reconciler.pass(), ["snapshot_missing ready>failed"]);
  assertEquals(questions().map(([changes]) => changes), [true, false]);
});

/** Until nothing of before is compared again but by the page that goes round. */
async function settle(plane: ControlPlane, pass: () => Promise<string[]>): Promise<void> {
  await plane.database.sql`update sandboxes set state_changed_at = now() - interval '1 hour'`;
  await pass();
  await pass();
  assertEquals(lastQuestion(plane).named, 0);
}
