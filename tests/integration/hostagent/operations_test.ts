import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { eventually, processesWith, startTestHostAgent } from "@torpor/testing/hostagent";

async function codeOf(call: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => call, TorporError)).code;
}

Deno.test("a repeated operation joins or gets its result; an older version is fenced", async () => {
  await using host = await startTestHostAgent();
  const sandboxId = newId();
  const create = { sandboxId, operationId: newId(), version: 3n, memoryMb: 192, diskSizeMb: 256 };
  const [first, second] = await Promise.all([host.client.createSandbox(create), host.client.createSandbox(create)]);
  assertEquals(first.sandboxId, second.sandboxId);
  assertEquals(first.status, "running");
  assertEquals(await codeOf(host.client.createSandbox({ ...create, operationId: newId() })), "already_exists");

  const pause = { sandboxId, operationId: newId(), version: 5n };
  const [a, b] = await Promise.all([host.client.pauseSandbox(pause), host.client.pauseSandbox(pause)]);
  assertEquals(a.snapshot?.snapshotId, b.snapshot?.snapshotId);
  // Another pause of a paused sandbox gives the same snapshot, too.
  const again = await host.client.pauseSandbox({ sandboxId, operationId: newId(), version: 6n });
  assertEquals(again.snapshot?.snapshotId, a.snapshot?.snapshotId);
  const status = await host.client.getOperation({ sandboxId, operationId: pause.operationId });
  assertEquals([status.state, status.sandbox?.status], ["succeeded", "paused"]);

  assertEquals(await codeOf(host.client.resumeSandbox({ sandboxId, operationId: newId(), version: 4n })), "fenced");
  assertEquals(await codeOf(host.client.destroySandbox({ sandboxId, operationId: newId(), version: 4n })), "fenced");
  const wrong = { sandboxId, operationId: newId(), version: 7n, snapshotId: newId() };
  assertEquals(await codeOf(host.client.resumeSandbox(wrong)), "snapshot_mismatch");
  const failed = await host.client.getOperation({ sandboxId, operationId: wrong.operationId });
  assertEquals([failed.state, failed.errorCode], ["failed", "snapshot_mismatch"]);
  assertEquals(await codeOf(host.client.getOperation({ sandboxId, operationId: newId() })), "operation_not_found");

  const resume = { sandboxId, operationId: newId(), version: 8n, snapshotId: a.snapshot!.snapshotId };
  assertEquals((await host.client.resumeSandbox(resume)).status, "running");
  assertEquals((await host.client.resumeSandbox({ sandboxId, operationId: newId(), version: 9n })).status, "running");
  // An operation id belongs to one operation.
  assertEquals(await codeOf(host.client.pauseSandbox({ ...resume, version: 9n })), "invalid_argument");
});

Deno.test("destroy succeeds always: twice, for ids never seen, and while something else is going on", async () => {
  await using host = await startTestHostAgent();
  await host.client.destroySandbox({ sandboxId: newId() });
  const sandboxId = newId();
  const creating = codeOf(host.client.createSandbox({ sandboxId, memoryMb: 192, diskSizeMb: 256 }));
  await eventually(async () => {
    const { sandboxes } = await host.client.listSandboxes({});
    return sandboxes.find((s) => s.status === "starting");
  }, "the sandbox as starting");
  await host.client.destroySandbox({ sandboxId });
  assertEquals(await creating, "canceled");
  await host.client.destroySandbox({ sandboxId });
  const running = await host.create();
  const pausing = host.client.pauseSandbox({ sandboxId: running }).catch((error) => error.code);
  await host.client.destroySandbox({ sandboxId: running });
  await pausing;
  assertEquals((await host.client.listSandboxes({})).sandboxes, []);
  assertEquals([...Deno.readDirSync(host.layout.sandboxes), ...Deno.readDirSync(host.layout.snapshots)], []);
  assertEquals(await processesWith(host.layout.home), []);
});

Deno.test("an idle sandbox is paused by itself and listed until that is acknowledged; a busy one is not", async () => {
  await using host = await startTestHostAgent();
  const [idle, busy] = await Promise.all([host.create({ timeoutSec: 2 }), host.create({ timeoutSec: 2 })]);
  let ended = false;
  const working = host.run(busy, "sleep 6").then(() => ended = true);
  await eventually(async () => {
    const { autoPausedSandboxIds } = await host.client.listSandboxes({});
    return autoPausedSandboxIds.includes(idle) ? true : undefined;
  }, "the automatic pause");
  assertEquals([host.agent.manager.get(busy).status, ended], ["running", false]);
  await working;
  const seen = await host.client.listSandboxes({});
  assertEquals(seen.sandboxes.find((s) => s.sandboxId === idle)?.status, "paused");
  const acknowledged = await host.client.listSandboxes({ acknowledgedAutoPausedIds: [idle] });
  assertEquals(acknowledged.autoPausedSandboxIds.includes(idle), false);
  assertEquals(await codeOf(host.client.pingSandbox({ sandboxId: idle })), "conflict");
});

Deno.test("what is not an id, out of range or not there yet is refused with its name", async () => {
  await using host = await startTestHostAgent();
  const { client } = host;
  const bad: [string, () => Promise<unknown>][] = [
    ["sandbox_id", () => client.destroySandbox({ sandboxId: "" })],
    ["sandbox_id", () => client.destroySandbox({ sandboxId: "../../../../../etc" })],
    ["sandbox_id", () => client.getSandbox({ sandboxId: "A".repeat(20) })],
    ["sandbox_id", () => client.createSandbox({ sandboxId: "x" })],
    ["operation_id", () => client.createSandbox({ operationId: "x" })],
    ["version", () => client.createSandbox({ version: -1n })],
    ["template", () => client.createSandbox({ template: "../base" })],
    ["vcpus", () => client.createSandbox({ vcpus: 17 })],
    ["memory_mb", () => client.createSandbox({ memoryMb: 127 })],
    ["disk_size_mb", () => client.createSandbox({ diskSizeMb: 63 })],
    ["timeout_sec", () => client.createSandbox({ timeoutSec: -1 })],
    ["env", () => client.createSandbox({ env: { "A=B": "c" } })],
  ];
  for (const [field, call] of bad) {
    const error = await assertRejects(call, TorporError);
    assertEquals([error.code, error.field], ["invalid_argument", field]);
  }
  assertEquals(await codeOf(client.createSandbox({ template: "other" })), "template_not_found");
  assertEquals(await codeOf(client.pauseSandbox({ sandboxId: newId() })), "sandbox_not_found");
  assertEquals(await codeOf(client.flattenRootfs({ sandboxId: newId(), name: "x" })), "unimplemented");
  assertEquals([...Deno.readDirSync(host.layout.sandboxes)], []);
});

Deno.test("a sandbox's environment reaches its commands", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create({ env: { GREETING: "good morning" } });
  assertEquals(await host.run(id, "echo $GREETING"), "good morning");
  await host.client.pauseSandbox({ sandboxId: id });
  assertEquals(await codeOf(host.client.exec({ sandboxId: id, cmd: "true" })), "conflict");
  await host.client.resumeSandbox({ sandboxId: id });
  assertEquals(await host.run(id, "echo $GREETING"), "good morning");
  assertNotEquals((await host.client.getMemoryStats({ sandboxId: id })).faults, 0n);
});
