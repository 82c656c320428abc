import { assertEquals } from "@std/assert";
import { ControlPlane, TEAM } from "./control_plane.ts";

const CLOSED = { allowInternetAccess: false, allowOut: [], denyOut: [] };

Deno.test("a host that missed a change of a sandbox's network is told by the next pass", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  await using reconciler = await plane.startReconciler();
  while ((await reconciler.pass()).length > 0);
  plane.host.inject("updateNetwork", { code: "unavailable" });
  const { confirmed } = await plane.lifecycle.updateNetwork(TEAM, id, CLOSED);
  assertEquals([confirmed, plane.host.sandboxes.get(id)!.networkRevision], [false, 0n]);
  assertEquals(await reconciler.pass(), ["network_repeated running>running"]);
  const { network, networkRevision } = plane.host.sandboxes.get(id)!;
  assertEquals([network!.allowInternetAccess, networkRevision], [false, 1n]);
  assertEquals(await reconciler.pass(), []);
});

Deno.test("a host that still cannot be told is told later", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  await using reconciler = await plane.startReconciler();
  for (let i = 0; i < 2; i++) plane.host.inject("updateNetwork", { code: "unavailable" });
  await plane.lifecycle.updateNetwork(TEAM, id, CLOSED);
  assertEquals(await reconciler.pass(), []);
  assertEquals(await reconciler.pass(), ["network_repeated running>running"]);
});

Deno.test("a change whose answer was lost is repeated by nobody", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  await using reconciler = await plane.startReconciler();
  plane.host.inject("updateNetwork", { code: "unavailable", afterWork: true });
  assertEquals((await plane.lifecycle.updateNetwork(TEAM, id, CLOSED)).confirmed, false);
  assertEquals(await reconciler.pass(), []);
});

Deno.test("a change while an operation is under way is told after it, by its newer version", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  await plane.lifecycle.pauseSandbox(TEAM, id);
  const gate = plane.host.hold("resumeSandbox");
  const told = plane.host.hold("updateNetwork");
  const resumed = plane.lifecycle.resumeSandbox(TEAM, id);
  await gate.reached;
  const updated = plane.lifecycle.updateNetwork(TEAM, id, CLOSED);
  await told.reached;
  told.release();
  gate.release();
  await resumed;
  assertEquals((await updated).confirmed, true);
  assertEquals(plane.host.sandboxes.get(id)!.network!.allowInternetAccess, false);
});

Deno.test("the newest of many changes wins, in whatever order they arrive", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  const gate = plane.host.hold("updateNetwork");
  const first = plane.lifecycle.updateNetwork(TEAM, id, CLOSED);
  await gate.reached;
  await plane.lifecycle.updateNetwork(TEAM, id, { ...CLOSED, allowOut: ["1.1.1.1"] });
  gate.release();
  await first;
  const { network, networkRevision } = plane.host.sandboxes.get(id)!;
  assertEquals([network!.allowOut, networkRevision], [["1.1.1.1"], 2n]);
});
