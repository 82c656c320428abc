import { assertEquals, assertRejects } from "@std/assert";
import { listSandboxes } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { ControlPlane, SPEC, TEAM } from "./control_plane.ts";

Deno.test("the same key and body creates once and returns the first answer, whatever became of it since", async () => {
  await using plane = await ControlPlane.start();
  await using other = plane.openLifecycle();
  const options = { idempotencyKey: "k" };
  const gate = plane.host.hold("createSandbox");
  const calls = Array.from(
    { length: 20 },
    (_, index) => (index % 2 ? plane.lifecycle : other).createSandbox(TEAM, SPEC, options),
  );
  await gate.reached;
  gate.release();
  const rows = await Promise.all(calls);
  assertEquals((await listSandboxes(plane.database.sql, TEAM)).sandboxes.length, 1);
  for (const row of rows) assertEquals(row, rows[0]);
  await plane.lifecycle.pauseSandbox(TEAM, rows[0]!.id);
  assertEquals(await other.createSandbox(TEAM, SPEC, options), rows[0]);
  await plane.lifecycle.deleteSandbox(TEAM, rows[0]!.id);
  assertEquals((await other.createSandbox(TEAM, SPEC, options)).state, "running");
});

Deno.test("the same key with another body, verb or sandbox is refused", async () => {
  await using plane = await ControlPlane.start();
  const options = { idempotencyKey: "k" };
  const { id } = await plane.lifecycle.createSandbox(TEAM, SPEC, options);
  const others = [
    () => plane.lifecycle.createSandbox(TEAM, { ...SPEC, memoryMb: 512 }, options),
    () => plane.lifecycle.pauseSandbox(TEAM, id, options),
  ];
  for (const call of others) assertEquals((await assertRejects(call, TorporError)).code, "idempotency_mismatch");
  assertEquals((await plane.sandbox(id)).state, "running");
});

Deno.test("a failure is the first answer too; a refusal before anything began is not", async () => {
  await using plane = await ControlPlane.start();
  plane.host.inject("createSandbox", { code: "vm_start_failed" });
  for (let i = 0; i < 2; i++) {
    const error = await assertRejects(
      () => plane.lifecycle.createSandbox(TEAM, SPEC, { idempotencyKey: "fails" }),
      TorporError,
    );
    assertEquals(error.code, "vm_start_failed");
  }
  const { id } = await plane.create();
  const gate = plane.host.hold("pauseSandbox");
  const pause = plane.lifecycle.pauseSandbox(TEAM, id);
  await gate.reached;
  gate.release();
  await pause;
  const resuming = plane.host.hold("resumeSandbox");
  const resume = plane.lifecycle.resumeSandbox(TEAM, id);
  await resuming.reached;
  const refused = () => plane.lifecycle.pauseSandbox(TEAM, id, { idempotencyKey: "later" });
  assertEquals((await assertRejects(refused, TorporError)).code, "conflict");
  resuming.release();
  await resume;
  assertEquals((await refused()).state, "paused");
});

Deno.test("keys answer repeats of what was joined and of what was done already", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  const gate = plane.host.hold("pauseSandbox");
  const first = plane.lifecycle.pauseSandbox(TEAM, id);
  await gate.reached;
  const joined = plane.lifecycle.pauseSandbox(TEAM, id, { idempotencyKey: "joined" });
  const repeated = plane.lifecycle.pauseSandbox(TEAM, id, { idempotencyKey: "joined" });
  gate.release();
  const paused = await first;
  assertEquals(await joined, paused);
  assertEquals(await repeated, paused);
  assertEquals(await plane.lifecycle.pauseSandbox(TEAM, id, { idempotencyKey: "done" }), paused);
  await plane.lifecycle.resumeSandbox(TEAM, id);
  // The key's answer is the first one; nothing is paused again.
  assertEquals(await plane.lifecycle.pauseSandbox(TEAM, id, { idempotencyKey: "done" }), paused);
  assertEquals((await plane.sandbox(id)).state, "running");
});
