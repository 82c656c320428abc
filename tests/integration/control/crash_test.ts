import { assert, assertEquals, assertRejects } from "@std/assert";
import { listSandboxes, lockSandbox, newOperationId, type SandboxRow } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { beginCreate, beginOperation, type Held, recordPlacement } from "@torpor/lifecycle";
import { type FakeMethod } from "@torpor/testing/fake_host";
import { ControlPlane, SPEC, TEAM, TOKEN } from "./control_plane.ts";

// What a service leaves behind when it dies between two steps of the journal, and what one pass makes of it.

/** The lock of a process that no longer lives. */
const DEAD = { owner: 42n };

const RESOURCES = { vcpus: SPEC.vcpus, memoryMb: BigInt(SPEC.memoryMb), diskMb: BigInt(SPEC.diskSizeMb) };

async function begin(plane: ControlPlane, row: SandboxRow, kind: "pause" | "resume" | "delete"): Promise<Held> {
  return await plane.database.transaction(
    "test",
    async (sql) => beginOperation(sql, (await lockSandbox(sql, TEAM, row.id))!, kind, DEAD),
  );
}

function create(plane: ControlPlane): Promise<Held> {
  return plane.database.transaction("test", (sql) => beginCreate(sql, { id: newId(), teamId: TEAM, spec: SPEC }, DEAD));
}

async function callHost(plane: ControlPlane, { sandbox, operation }: Held): Promise<void> {
  const host = plane.hosts.at(plane.host.address);
  const request = { sandboxId: sandbox.id, operationId: operation.id, version: operation.version };
  if (operation.kind === "create") await host.createSandbox({ ...request, memoryMb: sandbox.memoryMb });
  if (operation.kind === "pause") await host.pauseSandbox(request);
  if (operation.kind === "resume") await host.resumeSandbox(request);
  if (operation.kind === "delete") await host.destroySandbox(request);
}

Deno.test("create: died before, after and between placement and host call", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  await create(plane);
  assertEquals(await reconciler.pass(), ["operation_rolled_back pending>failed"]);

  const placed = await create(plane);
  await plane.scheduler.place({ sandboxId: placed.sandbox.id, resources: RESOURCES });
  assertEquals(await reconciler.pass(), ["operation_rolled_back pending>failed"]);
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 0n });

  const bound = await create(plane);
  await plane.scheduler.place({ sandboxId: bound.sandbox.id, resources: RESOURCES });
  await recordPlacement(plane.database, bound, plane.host.hostId);
  assertEquals(await reconciler.pass(), ["operation_rolled_back starting>failed"]);
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 0n });

  const called = await create(plane);
  await plane.scheduler.place({ sandboxId: called.sandbox.id, resources: RESOURCES });
  await callHost(plane, await recordPlacement(plane.database, called, plane.host.hostId));
  assertEquals(await reconciler.pass(), ["operation_finished starting>running"]);
  assertEquals(await plane.reserved(), { vcpus: 1, memoryMb: 256n, diskMb: 64n });
});

Deno.test("a create that reaches the host after it was given up is destroyed there", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const held = await create(plane);
  await plane.scheduler.place({ sandboxId: held.sandbox.id, resources: RESOURCES });
  const placed = await recordPlacement(plane.database, held, plane.host.hostId);
  assertEquals(await reconciler.pass(), ["operation_rolled_back starting>failed"]);
  await callHost(plane, placed);
  assertEquals(await reconciler.pass(), ["orphan_destroyed failed>failed"]);
  assertEquals(plane.host.sandboxes.size, 0);
});

Deno.test("pause: died before and after the host call, or the host failed it", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const row = await plane.create();
  await begin(plane, row, "pause");
  assertEquals(await reconciler.pass(), ["operation_rolled_back pausing>running"]);

  plane.host.inject("pauseSandbox", { code: "no_space" });
  await assertRejects(async () => callHost(plane, await begin(plane, row, "pause")), TorporError);
  assertEquals(await reconciler.pass(), ["operation_rolled_back pausing>running"]);
  assertEquals((await plane.journal(row.id)).at(-1), "pause failed no_space");

  await callHost(plane, await begin(plane, row, "pause"));
  assertEquals(await reconciler.pass(), ["operation_finished pausing>paused"]);
  assertEquals((await plane.sandbox(row.id)).snapshot?.generation, 1);
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 64n });
});

Deno.test("pause: the VM died with the service", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const row = await plane.create();
  await begin(plane, row, "pause");
  plane.host.sandboxes.delete(row.id);
  assertEquals(await reconciler.pass(), ["operation_rolled_back pausing>failed"]);
  assertEquals((await plane.sandbox(row.id)).reason, "vm_gone");
});

Deno.test("resume: died before and after the host call; the snapshot is never lost", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const row = await plane.create();
  await plane.lifecycle.pauseSandbox(TEAM, row.id);
  await begin(plane, row, "resume");
  assertEquals(await reconciler.pass(), ["operation_rolled_back resuming>paused"]);
  assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 64n });

  await callHost(plane, await begin(plane, row, "resume"));
  assertEquals(await reconciler.pass(), ["operation_finished resuming>running"]);
  assertEquals(await plane.reserved(), { vcpus: 1, memoryMb: 256n, diskMb: 64n });
});

Deno.test("delete: died before and after the host call", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const [before, after] = [await plane.create(), await plane.create()];
  await begin(plane, before, "delete");
  await callHost(plane, await begin(plane, after, "delete"));
  assertEquals(await reconciler.pass(), Array(2).fill("delete_repeated deleting>deleted"));
  assertEquals([plane.host.sandboxes.size, (await plane.reserved()).vcpus], [0, 0]);
});

Deno.test("an operation that its host still works on is left alone", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const row = await plane.create();
  const gate = plane.host.hold("pauseSandbox");
  const call = callHost(plane, await begin(plane, row, "pause"));
  await gate.reached;
  assertEquals(await reconciler.pass(), []);
  assertEquals((await plane.sandbox(row.id)).state, "pausing");
  gate.release();
  await call;
  assertEquals(await reconciler.pass(), ["operation_finished pausing>paused"]);
});

Deno.test("a reply that is lost leaves the state transitional, and the reconciler finishes", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const lostReply = { code: "unavailable", afterWork: true } as const;
  const steps = [
    ["pauseSandbox", "pausing", "operation_finished pausing>paused"],
    ["resumeSandbox", "resuming", "operation_finished resuming>running"],
  ] as const;
  for (const [verb, state, repair] of steps) {
    plane.host.inject(verb, lostReply);
    const error = await assertRejects(() => plane.lifecycle[verb](TEAM, id), TorporError);
    assertEquals([error.code, (await plane.sandbox(id)).state], ["unavailable", state]);
    assertEquals(await reconciler.pass(), [repair]);
  }
  plane.host.inject("destroySandbox", lostReply);
  assertEquals(await plane.lifecycle.deleteSandbox(TEAM, id), { confirmed: false });
  assertEquals(await reconciler.pass(), ["delete_repeated deleting>deleted"]);

  plane.host.inject("createSandbox", lostReply);
  await assertRejects(() => plane.create(), TorporError);
  assertEquals(await reconciler.pass(), ["operation_finished starting>running"]);
});

Deno.test("an operation of a living process is not taken from it before its deadline", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const gate = plane.host.hold("pauseSandbox");
  const pause = plane.lifecycle.pauseSandbox(TEAM, id);
  await gate.reached;
  await plane.database.sql`select 1`;
  assertEquals(await reconciler.pass(), []);
  await plane.database.sql`update operations set deadline = now() - interval '1 minute' where state = 'running'`;
  assertEquals(await reconciler.pass(), []); // Taken, and the host is still at it.
  const [{ attempts }] = await plane.database.sql<[{ attempts: number }]>`
    select max(attempts) as attempts from operations`;
  assertEquals(attempts, 1);
  gate.release();
  assertEquals((await pause).state, "paused");
});

for (
  const [verb, method, stuck] of [
    ["create", "createSandbox", "starting"],
    ["pause", "pauseSandbox", "pausing"],
    ["resume", "resumeSandbox", "resuming"],
    ["delete", "destroySandbox", "deleting"],
    ["snapshot", "createSnapshot", "snapshotting"],
    ["fork", "createSnapshot", "snapshotting"],
  ] as const satisfies [string, FakeMethod, string][]
) {
  Deno.test(`SIGKILL during ${verb}: one pass later the database and the host agree`, async () => {
    await using plane = await ControlPlane.start();
    await using reconciler = await plane.startReconciler();
    const existing = verb === "create" ? undefined : await plane.create();
    if (verb === "resume") await plane.lifecycle.pauseSandbox(TEAM, existing!.id);
    const gate = plane.host.hold(method);
    const child = startChild(plane, verb, existing?.id ?? newOperationId());
    await gate.reached;
    child.kill("SIGKILL");
    await child.status;
    const [row] = (await listSandboxes(plane.database.sql, TEAM)).sandboxes;
    assertEquals(row!.state, stuck);
    gate.release();
    const repairs = await passUntilSettled(reconciler);
    // The checkpoint of a fork is given up with it: its operation ends as a conflict.
    const settled = verb === "fork" ? /^fork_rolled_back / : /^(operation_finished|delete_repeated) /;
    assert(repairs.some((repair) => settled.test(repair)), repairs.join());
    const after = (await listSandboxes(plane.database.sql, TEAM)).sandboxes[0];
    assertEquals(after?.state, plane.host.sandboxes.get(row!.id)?.status);
    assertEquals(plane.host.kept.size, verb === "snapshot" ? 1 : 0);
    assertEquals(await reconciler.pass(), []);
  });
}

Deno.test("SIGKILL while the children of a fork are made: one pass later none is left", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create();
  const [first, second] = [plane.host.hold("createSandbox"), plane.host.hold("createSandbox", { code: "no_space" })];
  const child = startChild(plane, "fork", id);
  await Promise.all([first.reached, second.reached]);
  child.kill("SIGKILL");
  await child.status;
  first.release();
  second.release();
  // The host may still be at work on a child in the first of them.
  const repairs: string[] = [];
  for (let pass = 0; pass < 100 && !repairs.includes("fork_rolled_back >"); pass++) {
    repairs.push(...await passUntilSettled(reconciler));
  }
  assert(repairs.includes("fork_rolled_back >"), repairs.join());
  assertEquals((await listSandboxes(plane.database.sql, TEAM)).sandboxes.map((row) => row.id), [id]);
  assertEquals([plane.host.sandboxes.size, plane.host.kept.size], [1, 0]);
  assertEquals(await plane.reserved(), { vcpus: 1, memoryMb: 256n, diskMb: 64n });
  assertEquals(await reconciler.pass(), []);
});

function startChild(plane: ControlPlane, verb: string, id: string): Deno.ChildProcess {
  const program = new URL("./crash_child.ts", import.meta.url).pathname;
  const args = ["run", "-A", program, plane.test.url, plane.schedulerUrl, TOKEN, verb, id];
  return new Deno.Command(Deno.execPath(), { args, stdin: "null", stdout: "null", stderr: "null" }).spawn();
}

/** The killed process's connection ends in the server a moment after it died: its lock is gone then, not before. */
async function passUntilSettled(reconciler: { pass(): Promise<string[]> }): Promise<string[]> {
  for (;;) {
    const repairs = await reconciler.pass();
    if (repairs.length > 0) return repairs;
  }
}
