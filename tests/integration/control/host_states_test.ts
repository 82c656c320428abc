import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { getKeptSnapshot, readmitHost } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import type { FakeMethod } from "@torpor/testing/fake_host";
import { ControlPlane, TEAM } from "./control_plane.ts";

Deno.test("a drained host pauses what runs there and takes nothing new; opened again it resumes", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const [a, b] = [await plane.create(), await plane.create()];
  await plane.scheduler.setHostPlacement({ host: plane.host.hostId, placement: "draining" });
  const described = async () => await plane.scheduler.getHost({ host: plane.host.hostId });
  assertEquals([(await described()).activeSandboxes, (await described()).host?.state], [2, "draining"]);
  const repairs = (await reconciler.pass()).filter((one) => one.startsWith("host_drained"));
  assertEquals(repairs, ["host_drained running>pausing", "host_drained running>pausing"]);
  // Joins the pauses that the reconciler has begun.
  for (const { id } of [a, b]) assertEquals((await plane.lifecycle.pauseSandbox(TEAM, id)).state, "paused");
  assertEquals((await described()).activeSandboxes, 0);
  assertEquals((await assertRejects(() => plane.create(), TorporError)).code, "no_capacity");
  assertEquals((await assertRejects(() => plane.lifecycle.resumeSandbox(TEAM, a.id), TorporError)).code, "no_capacity");
  assertEquals((await plane.sandbox(a.id)).state, "paused");
  await plane.scheduler.setHostPlacement({ host: plane.host.hostId, placement: "open" });
  assertEquals((await plane.lifecycle.resumeSandbox(TEAM, a.id)).state, "running");
});

/** A plane whose host was removed by force, and what was there. */
async function removedByForce(plane: ControlPlane) {
  const [runs, pauses, sleeps] = [await plane.create(), await plane.create(), await plane.create()];
  await plane.lifecycle.pauseSandbox(TEAM, sleeps.id);
  const { done } = await plane.lifecycle.startSnapshot(TEAM, { sandboxId: runs.id, name: "kept" });
  const snapshot = await done;
  const refused = await assertRejects(() => plane.scheduler.removeHost({ host: plane.host.hostId }), TorporError);
  assertEquals(refused.code, "conflict");
  await plane.scheduler.removeHost({ host: plane.host.hostId, force: true });
  return { runs, pauses, sleeps, snapshot };
}

/** What an enrolment with a new token and the registration after it do. */
async function addAgain(plane: ControlPlane): Promise<void> {
  assertEquals(await readmitHost(plane.database.sql, plane.host.hostId), true);
  const capacity = { vcpus: 4, memoryMb: 65_536n, diskMb: 100_000n };
  await plane.scheduler.registerHost({
    hostId: plane.host.hostId,
    name: "again",
    address: plane.host.address,
    capacity,
  });
}

async function stateOf(plane: ControlPlane, { id }: { id: string }): Promise<string> {
  const { state, reason } = await plane.sandbox(id);
  return `${state} ${reason}`.trim();
}

Deno.test("what is on a host that is removed by force is lost, with the reason, and can be deleted", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { runs, pauses, sleeps, snapshot } = await removedByForce(plane);
  assertEquals((await plane.lifecycle.deleteSandbox(TEAM, pauses.id)).confirmed, true);
  await reconciler.pass();
  for (const one of [runs, sleeps]) {
    assertEquals(await stateOf(plane, one), "lost host_removed");
    const conflict = await assertRejects(() => plane.lifecycle.resumeSandbox(TEAM, one.id), TorporError);
    assertEquals(conflict.code, "conflict");
    assertMatch(conflict.hint!, /added again/);
  }
  assertEquals(await reconciler.pass(), []);
  for (const { id } of [runs, sleeps]) {
    assertEquals((await plane.lifecycle.deleteSandbox(TEAM, id)).confirmed, true);
  }
  assertEquals((await plane.lifecycle.deleteSnapshot(snapshot.id)).confirmed, true);
  assertEquals((await assertRejects(() => plane.create(), TorporError)).code, "no_capacity");
  const heartbeat = () => plane.scheduler.heartbeat({ hostId: plane.host.hostId });
  assertEquals((await assertRejects(heartbeat, TorporError)).code, "permission_denied");

  // What was deleted meanwhile goes when the host is back.
  await addAgain(plane);
  await reconciler.pass();
  assertEquals([plane.host.sandboxes.size, plane.host.kept.size], [0, 0]);
});

Deno.test("a host that is added again brings back what it has: running, paused, snapshots", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler({ failedRetentionMs: 0 });
  const { runs, pauses: dies, sleeps, snapshot } = await removedByForce(plane);
  // Twice: what waits for its host is not swept away as failed.
  await reconciler.pass();
  await reconciler.pass();
  const kept = async () => (await getKeptSnapshot(plane.database.sql, snapshot.id))!;
  assertEquals([(await kept()).state, (await kept()).reason], ["failed", "host_removed"]);

  plane.host.sandboxes.delete(dies.id);
  await addAgain(plane);
  await reconciler.pass();
  assertEquals(await stateOf(plane, runs), "running");
  assertEquals(await stateOf(plane, sleeps), "paused");
  assertEquals(await stateOf(plane, dies), "failed vm_gone");
  assertEquals([(await kept()).state, (await kept()).sizes], ["ready", snapshot.sizes]);
  assertEquals(await reconciler.pass(), []);
  assertEquals((await plane.lifecycle.resumeSandbox(TEAM, sleeps.id)).state, "running");
  assertEquals((await plane.lifecycle.pauseSandbox(TEAM, runs.id)).state, "paused");
  assertEquals(await plane.reserved(), { vcpus: 1, memoryMb: 256n, diskMb: 128n });
});

Deno.test("a host that is added again without the data: failed, with what is missing", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { runs, sleeps, snapshot } = await removedByForce(plane);
  await reconciler.pass();
  plane.host.sandboxes.delete(sleeps.id);
  plane.host.kept.clear();
  await addAgain(plane);
  await reconciler.pass();
  assertEquals(await stateOf(plane, sleeps), "failed snapshot_missing");
  assertEquals(await stateOf(plane, runs), "running");
  const gone = (await getKeptSnapshot(plane.database.sql, snapshot.id))!;
  assertEquals([gone.state, gone.reason], ["failed", "snapshot_missing"]);
});

Deno.test("a host comes back with an older generation of a lost sandbox: failed", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { sleeps } = await removedByForce(plane);
  await reconciler.pass();
  const sandbox = plane.host.sandboxes.get(sleeps.id)!;
  sandbox.snapshot = { ...sandbox.snapshot, generation: 0 };
  await addAgain(plane);
  await reconciler.pass();
  assertEquals(await stateOf(plane, sleeps), "failed snapshot_missing");
});

Deno.test("operations under way on a host that is removed end with its removal; what they held is lost, not failed", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { host, lifecycle } = plane;
  const [pauses, resumes, copied, copiedAsleep, late] = [
    await plane.create(),
    await plane.create(),
    await plane.create(),
    await plane.create(),
    await plane.create(),
  ];
  for (const { id } of [resumes, copiedAsleep]) await lifecycle.pauseSandbox(TEAM, id);
  const unanswered = async (method: FakeMethod, call: () => Promise<unknown>) => {
    host.inject(method, { code: "unavailable", afterWork: true });
    assertEquals((await assertRejects(call, TorporError)).code, "unavailable");
  };
  await unanswered("pauseSandbox", () => lifecycle.pauseSandbox(TEAM, pauses.id));
  await unanswered("resumeSandbox", () => lifecycle.resumeSandbox(TEAM, resumes.id));
  for (const { id } of [copied, copiedAsleep]) {
    await unanswered("createSnapshot", async () => {
      await (await lifecycle.startSnapshot(TEAM, { sandboxId: id, name: id })).done;
    });
  }
  await unanswered("createSandbox", () => plane.create({ metadata: { which: "new" } }));
  await plane.scheduler.removeHost({ host: host.hostId, force: true });
  // Asked for before the next pass has given it up.
  assertEquals((await assertRejects(() => lifecycle.pauseSandbox(TEAM, late.id), TorporError)).code, "host_removed");
  assertEquals((await reconciler.pass()).sort(), [
    "operation_rolled_back pausing>lost",
    "operation_rolled_back resuming>lost",
    "operation_rolled_back snapshotting>lost",
    "operation_rolled_back snapshotting>lost",
    "operation_rolled_back starting>failed",
  ]);
  const all = [pauses, resumes, copied, copiedAsleep, late];
  for (const one of all) assertEquals(await stateOf(plane, one), "lost host_removed");
  assertEquals(await plane.journal(pauses.id), ["create succeeded", "pause failed host_removed"]);

  // All that the calls without an answer have done is there, when the host is.
  await addAgain(plane);
  await reconciler.pass();
  const states = await Promise.all(all.map((one) => stateOf(plane, one)));
  assertEquals(states, ["paused", "running", "running", "paused", "running"]);
  const snapshots = await plane.database.sql`select state from snapshots`;
  assertEquals(snapshots.map(({ state }) => state), ["ready", "ready"]);
});

Deno.test("placements follow labels and the strategy", async () => {
  await using plane = await ControlPlane.start();
  const other = newId();
  await plane.scheduler.registerHost({
    hostId: other,
    name: "other",
    address: plane.host.address,
    capacity: { vcpus: 4, memoryMb: 32_768n, diskMb: 100_000n },
    labels: { zone: "a", disk: "ssd" },
  });
  const resources = { vcpus: 1, memoryMb: 128n, diskMb: 64n };
  const place = async (hostLabels: Record<string, string>) =>
    (await plane.scheduler.place({ sandboxId: newId(), resources, hostLabels })).hostId;
  assertEquals(await place({}), plane.host.hostId);
  assertEquals(await place({ zone: "a" }), other);
  assertEquals(await place({ zone: "a", disk: "ssd" }), other);
  const refused = await assertRejects(() => place({ zone: "b" }), TorporError);
  assertEquals([refused.code, refused.message.includes("has not the label zone=b")], ["no_capacity", true]);
});
