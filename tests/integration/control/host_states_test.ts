import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
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

Deno.test("a host removed by force loses what it holds, with the reason; all of it can be deleted", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const [running, paused, deleted] = [await plane.create(), await plane.create(), await plane.create()];
  await plane.lifecycle.pauseSandbox(TEAM, paused.id);
  const { snapshot } = await plane.lifecycle.startSnapshot(TEAM, { sandboxId: running.id, name: "kept" })
    .then(async ({ done }) => ({ snapshot: await done }));
  const refused = await assertRejects(() => plane.scheduler.removeHost({ host: plane.host.hostId }), TorporError);
  assertEquals(refused.code, "conflict");
  await plane.scheduler.removeHost({ host: plane.host.hostId, force: true });

  assertEquals((await plane.lifecycle.deleteSandbox(TEAM, deleted.id)).confirmed, true);
  await reconciler.pass();
  for (const { id } of [running, paused]) {
    const { state, reason } = await plane.sandbox(id);
    assertEquals([state, reason], ["failed", "host_removed"]);
    assertEquals((await plane.lifecycle.deleteSandbox(TEAM, id)).confirmed, true);
  }
  assertEquals(await reconciler.pass(), []);
  assertEquals((await plane.lifecycle.deleteSnapshot(snapshot.id)).confirmed, true);
  assertEquals((await assertRejects(() => plane.create(), TorporError)).code, "no_capacity");
  const heartbeat = () => plane.scheduler.heartbeat({ hostId: plane.host.hostId });
  assertEquals((await assertRejects(heartbeat, TorporError)).code, "permission_denied");
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
