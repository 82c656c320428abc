import { assert, assertEquals, assertRejects } from "@std/assert";
import { countSandboxesByState, getSandbox, listSandboxes } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { ControlPlane, SPEC, TEAM } from "./control_plane.ts";

Deno.test("a sandbox is created, paused, resumed and deleted; capacity follows", async () => {
  await using plane = await ControlPlane.start();
  const created = await plane.create();
  assertEquals([created.state, created.version, created.accelerator, created.deadline], ["running", 3n, "tcg", null]);
  assertEquals(await plane.reserved(), { vcpus: 1, memoryMb: 256n, diskMb: 64n });

  const paused = await plane.lifecycle.pauseSandbox(TEAM, created.id);
  assertEquals([paused.state, paused.version, paused.snapshot?.generation], ["paused", 5n, 1]);
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 64n });

  const resumed = await plane.lifecycle.resumeSandbox(TEAM, created.id, { timeoutSec: 60 });
  assertEquals([resumed.state, resumed.version, resumed.timeoutSec], ["running", 7n, 60]);
  assertEquals(await plane.reserved(), { vcpus: 1, memoryMb: 256n, diskMb: 64n });

  assertEquals(await plane.lifecycle.deleteSandbox(TEAM, created.id), { confirmed: true });
  assertEquals(await plane.lifecycle.deleteSandbox(TEAM, created.id), { confirmed: true });
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 0n });
  assertEquals(plane.host.sandboxes.size, 0);
  assertEquals(await plane.journal(created.id), [
    "create succeeded",
    "pause succeeded",
    "resume succeeded",
    "delete succeeded",
  ]);
  // Each host call carries the version that its operation gave the sandbox.
  assertEquals(plane.host.calls.map((call) => call.request.version), [2n, 4n, 6n, 8n]);
});

Deno.test("another team's sandbox and one that never was are equally unknown", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  for (const [team, sandbox] of [["strangers", id], [TEAM, newId()]] as const) {
    for (const verb of ["pauseSandbox", "resumeSandbox", "deleteSandbox"] as const) {
      const error = await assertRejects(() => plane.lifecycle[verb](team, sandbox), TorporError);
      assertEquals(error.code, "sandbox_not_found");
    }
  }
});

Deno.test("a host that refuses leaves a failed sandbox, its error and no reservation", async () => {
  await using plane = await ControlPlane.start();
  plane.host.inject("createSandbox", { code: "template_not_found" });
  const error = await assertRejects(() => plane.create(), TorporError);
  assertEquals(error.code, "template_not_found");
  const [row] = (await listSandboxes(plane.database.sql, TEAM)).sandboxes;
  assertEquals([row!.state, row!.reason], ["failed", "template_not_found"]);
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 0n });
  assertEquals(await plane.lifecycle.deleteSandbox(TEAM, row!.id), { confirmed: true });
});

Deno.test("without room a create fails with the reason and a resume leaves the sandbox paused", async () => {
  await using plane = await ControlPlane.start({ vcpus: 4, memoryMb: 300n, diskMb: 1000n });
  const { id } = await plane.create();
  const full = await assertRejects(() => plane.create(), TorporError);
  assertEquals(full.code, "no_capacity");
  assert(full.message.includes("44 of 256 MB memory"), full.message);

  await plane.lifecycle.pauseSandbox(TEAM, id);
  const second = await plane.create();
  const error = await assertRejects(() => plane.lifecycle.resumeSandbox(TEAM, id), TorporError);
  assertEquals(error.code, "no_capacity");
  assertEquals((await plane.sandbox(id)).state, "paused");
  await plane.lifecycle.deleteSandbox(TEAM, second.id);
  assertEquals((await plane.lifecycle.resumeSandbox(TEAM, id)).state, "running");
});

Deno.test("a failed pause leaves it running, a failed resume leaves it paused", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  plane.host.inject("pauseSandbox", { code: "pause_failed" });
  const pause = await assertRejects(() => plane.lifecycle.pauseSandbox(TEAM, id), TorporError);
  assertEquals([pause.code, (await plane.sandbox(id)).state], ["pause_failed", "running"]);
  await plane.lifecycle.pauseSandbox(TEAM, id);
  plane.host.inject("resumeSandbox", { code: "snapshot_corrupt" });
  const resume = await assertRejects(() => plane.lifecycle.resumeSandbox(TEAM, id), TorporError);
  assertEquals([resume.code, (await plane.sandbox(id)).state], ["snapshot_corrupt", "paused"]);
  assertEquals((await plane.lifecycle.resumeSandbox(TEAM, id)).state, "running");
});

Deno.test("pause during pause joins, also from another process", async () => {
  await using plane = await ControlPlane.start();
  await using other = plane.openLifecycle();
  const { id } = await plane.create();
  const gate = plane.host.hold("pauseSandbox");
  const first = plane.lifecycle.pauseSandbox(TEAM, id);
  await gate.reached;
  const joined = [plane.lifecycle.pauseSandbox(TEAM, id), other.pauseSandbox(TEAM, id)];
  const started = await other.startPause(TEAM, id);
  gate.release();
  const rows = await Promise.all([first, ...joined, started.done]);
  assertEquals(new Set(rows.map((row) => row.version)).size, 1);
  assertEquals(await plane.journal(id), ["create succeeded", "pause succeeded"]);
});

Deno.test("resume during pause waits for it and then resumes; other verbs conflict with state, operation and age", async () => {
  await using plane = await ControlPlane.start();
  await using other = plane.openLifecycle();
  const { id } = await plane.create();
  const pausing = plane.host.hold("pauseSandbox");
  const pause = plane.lifecycle.pauseSandbox(TEAM, id);
  await pausing.reached;
  const resuming = plane.host.hold("resumeSandbox");
  const resume = other.resumeSandbox(TEAM, id);
  pausing.release();
  await pause;
  await resuming.reached;
  const conflict = await assertRejects(() => plane.lifecycle.pauseSandbox(TEAM, id), TorporError);
  const { operationId } = await plane.sandbox(id);
  assertEquals(conflict.code, "conflict");
  assert(new RegExp(`is resuming: operation ${operationId} \\(resume\\) runs since \\d+ s`).test(conflict.message));
  resuming.release();
  assertEquals((await resume).state, "running");
});

Deno.test("delete wins over a pause, which ends as a conflict", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  const gate = plane.host.hold("pauseSandbox");
  const pause = assertRejects(() => plane.lifecycle.pauseSandbox(TEAM, id), TorporError);
  await gate.reached;
  const started = await plane.lifecycle.startDelete(TEAM, id);
  assertEquals((await plane.sandbox(id)).state, "deleting");
  gate.release();
  assertEquals((await started.done).state, "deleted");
  assertEquals((await pause).code, "conflict");
  assertEquals(await plane.journal(id), ["create succeeded", "pause failed conflict", "delete succeeded"]);
});

Deno.test("delete wins over a create; nothing stays on the host or reserved", async () => {
  await using plane = await ControlPlane.start();
  const gate = plane.host.hold("createSandbox");
  const started = await plane.lifecycle.startCreate(TEAM, SPEC);
  await gate.reached;
  const deleted = plane.lifecycle.deleteSandbox(TEAM, started.sandbox.id);
  // The delete's call waits on the host behind the create.
  while (plane.host.calls.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  gate.release();
  assertEquals(await deleted, { confirmed: true });
  assertEquals((await assertRejects(() => started.done, TorporError)).code, "conflict");
  assertEquals(plane.host.sandboxes.size, 0);
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 0n });
});

Deno.test("who joins an operation whose host is away is told so soon, not at its deadline", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  await plane.host.vanish();
  for (const verb of ["pauseSandbox", "pauseSandbox", "resumeSandbox"] as const) {
    const error = await assertRejects(() => plane.lifecycle[verb](TEAM, id), TorporError);
    assertEquals([error.code, (await plane.sandbox(id)).state], ["unavailable", "pausing"]);
  }
  await plane.host.comeBack();
  assertEquals(await reconciler.pass(), ["operation_rolled_back pausing>running"]);
});

Deno.test("a delete that the host does not hear is accepted", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  await plane.host.vanish();
  assertEquals(await plane.lifecycle.deleteSandbox(TEAM, id), { confirmed: false });
  assertEquals(await plane.lifecycle.deleteSandbox(TEAM, id), { confirmed: false });
  assertEquals((await plane.sandbox(id)).state, "deleting");
  await plane.host.comeBack();
  assertEquals(await reconciler.pass(), ["delete_repeated deleting>deleted"]);
});

Deno.test("50 concurrent pauses, resumes and deletes leave one consistent history", async () => {
  await using plane = await ControlPlane.start();
  await using other = plane.openLifecycle();
  const { id } = await plane.create();
  const verbs = ["pauseSandbox", "resumeSandbox"] as const;
  const calls = Array.from({ length: 50 }, (_, index) => {
    const lifecycle = index % 2 ? plane.lifecycle : other;
    return index === 40 ? lifecycle.deleteSandbox(TEAM, id) : lifecycle[verbs[index % 3 % 2]!](TEAM, id);
  });
  const results = await Promise.allSettled(calls);
  for (const result of results) {
    if (result.status === "fulfilled") continue;
    const { code } = result.reason as TorporError;
    assert(["conflict", "sandbox_not_found"].includes(code), `${code}: ${result.reason}`);
  }
  assertEquals(results[40]!.status, "fulfilled");
  const row = await plane.sandbox(id);
  assertEquals(row.state, "deleted");
  const history = await plane.journal(id);
  assert(history.every((entry) => !entry.includes("running")), history.join());
  // Two steps for each operation that ended well; create takes one more, one begins with version 1.
  const ended = history.filter((entry) => entry.endsWith("succeeded")).length;
  const superseded = history.filter((entry) => entry.endsWith("conflict")).length;
  assertEquals(row.version, BigInt(1 + 2 * ended + superseded));
  assertEquals(plane.host.sandboxes.size, 0);
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 0n });
});

Deno.test("nobody awaits: the operation ends all the same", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  {
    await using gone = plane.openLifecycle();
    await gone.startPause(TEAM, id);
  }
  assertEquals((await plane.sandbox(id)).state, "paused");
});

Deno.test("an operation's end is written when the database's connections were cut meanwhile", async () => {
  await using plane = await ControlPlane.start();
  const { id } = await plane.create();
  const gate = plane.host.hold("pauseSandbox");
  const pause = plane.lifecycle.pauseSandbox(TEAM, id);
  await gate.reached;
  await plane.test.terminateConnections();
  gate.release();
  assertEquals((await pause).state, "paused");
});

Deno.test("activity is written in batches and never backwards", async () => {
  await using plane = await ControlPlane.start();
  const { id, lastActiveAt } = await plane.create();
  {
    await using lifecycle = plane.openLifecycle();
    for (let i = 0; i < 100; i++) lifecycle.touch(id);
  }
  const row = await getSandbox(plane.database.sql, TEAM, id);
  assert(row!.lastActiveAt >= lastActiveAt);
  assertEquals(row!.version, 3n);
  assertEquals(await countSandboxesByState(plane.database.sql, TEAM), { running: 1 });
});
