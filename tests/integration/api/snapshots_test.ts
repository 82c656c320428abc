import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { insertApiKey } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { OperationService, SandboxService, SnapshotService } from "@torpor/proto/torpor";
import { newApiKey } from "../../../services/api/keys/api_key.ts";
import { type Json, TestApi } from "./harness.ts";

async function otherTeamsKey(api: TestApi): Promise<string> {
  await api.database.sql`insert into teams (id, name) values ('other', 'other')`;
  const { key, hash: keyHash, prefix } = await newApiKey();
  await insertApiKey(api.database.sql, { teamId: "other", name: "other", keyHash, prefix });
  return key;
}

async function take(api: TestApi, sandbox_id: string, name: string, json: Json = {}, key = api.key) {
  return await api.call("POST", "/v1/snapshots", { json: { sandbox_id, name, ...json }, key });
}

Deno.test("a snapshot is taken, shown, listed, spawned from and deleted over REST", async () => {
  await using api = await TestApi.start();
  const sandbox_id = await api.createSandbox({ memory_mb: 128, vcpus: 2, env: { A: "1" } });
  const taken = await take(api, sandbox_id, "numpy-1.26");
  assertEquals([taken.status, taken.json.state, taken.json.kind, taken.json.platform], [201, "ready", "named", false]);
  assertEquals([taken.json.memory_mb, taken.json.sizes.stopped_us, taken.json.sandbox_id], [128, 7000, sandbox_id]);
  assertEquals((await api.call("GET", `/v1/sandboxes/${sandbox_id}`)).json.state, "running");
  for (const reference of ["numpy-1.26", taken.json.snapshot_id]) {
    assertEquals((await api.call("GET", `/v1/snapshots/${reference}`)).json, taken.json);
  }
  assertEquals((await take(api, sandbox_id, "numpy-1.26")).json.code, "already_exists");

  const spawned = await api.call("POST", "/v1/sandboxes", { json: { snapshot: "numpy-1.26", metadata: { a: "b" } } });
  assertEquals([spawned.status, spawned.json.vcpus, spawned.json.memory_mb], [201, 2, 128]);
  assertEquals([spawned.json.source_snapshot_id, spawned.json.metadata], [taken.json.snapshot_id, { a: "b" }]);
  const same = { snapshot: taken.json.snapshot_id, vcpus: 2, memory_mb: 128, disk_size_mb: 5120, template: "base" };
  assertEquals((await api.call("POST", "/v1/sandboxes", { json: same })).status, 201);

  const checkpoint = await api.call("POST", `/v1/sandboxes/${sandbox_id}/checkpoint`);
  assertEquals([checkpoint.status, checkpoint.json.kind], [201, "checkpoint"]);
  assertMatch(checkpoint.json.name, /^checkpoint-[a-z0-9]{20}$/);
  const first = (await api.call("GET", "/v1/snapshots?limit=1")).json;
  assertEquals(first.snapshots.map((one: Json) => one.name), [checkpoint.json.name]);
  const second = (await api.call("GET", `/v1/snapshots?limit=1&cursor=${encodeURIComponent(first.next_cursor)}`)).json;
  assertEquals([second.snapshots[0].name, second.next_cursor], ["numpy-1.26", null]);

  assertEquals((await api.call("DELETE", "/v1/snapshots/numpy-1.26")).status, 204);
  assertEquals((await api.call("DELETE", `/v1/snapshots/${taken.json.snapshot_id}`)).status, 204, "repeats are fine");
  assertEquals((await api.call("GET", "/v1/snapshots/numpy-1.26")).status, 404);
  assertEquals((await api.call("GET", `/v1/sandboxes/${spawned.json.sandbox_id}`)).json.state, "running");
  assertEquals((await take(api, sandbox_id, "numpy-1.26")).status, 201, "the name is free again");
  const kinds = (await api.call("GET", `/v1/sandboxes/${sandbox_id}/operations`)).json.operations;
  assertEquals(kinds.map((one: Json) => one.kind), ["snapshot", "snapshot", "snapshot", "create"]);
  assertEquals(kinds[1].snapshot_id, checkpoint.json.snapshot_id);
});

Deno.test("a snapshot's time is given when it is taken, shown, and changed", async () => {
  await using api = await TestApi.start();
  const sandbox_id = await api.createSandbox();
  const leftSec = (json: Json) => (Date.parse(json.expires_at) - Date.now()) / 1000;
  const taken = await take(api, sandbox_id, "s", { expires_in_sec: 3600 });
  assert(taken.status === 201 && Math.abs(leftSec(taken.json) - 3600) < 60, taken.text);
  const checkpoint = await api.call("POST", `/v1/sandboxes/${sandbox_id}/checkpoint`, { json: { expires_in_sec: 60 } });
  assert(checkpoint.status === 201 && leftSec(checkpoint.json) <= 60, checkpoint.text);
  assertEquals((await api.call("POST", `/v1/sandboxes/${sandbox_id}/checkpoint`)).json.expires_at, null);
  const list = (await api.call("GET", "/v1/snapshots")).json.snapshots;
  assertEquals(list.map((one: Json) => one.expires_at), [null, checkpoint.json.expires_at, taken.json.expires_at]);

  const update = (name: string, expires_in_sec: number, key = api.key) =>
    api.call("PATCH", `/v1/snapshots/${name}`, { json: { expires_in_sec }, key });
  const never = await update("s", 0);
  assertEquals([never.status, never.json], [200, { ...taken.json, expires_at: null }]);
  assert(leftSec((await update("s", 315_360_000)).json) > 315_000_000, "ten years");
  const stranger = await otherTeamsKey(api);
  assertEquals((await update("s", 60, stranger)).json.code, "snapshot_not_found");
  await take(api, sandbox_id, "python", { platform: true }, api.token);
  for (const key of [stranger, api.key]) {
    const { status, json } = await update("python", 60, key);
    assertEquals([status, json.code], [403, "permission_denied"]);
  }
  assertEquals((await api.call("GET", "/v1/snapshots/python")).json.expires_at, null);
  assert(leftSec((await update("python", 60, api.token)).json) <= 60);

  api.host.faults.errors.createSnapshot = new TorporError("no_space", "full");
  await take(api, sandbox_id, "failed");
  const failed = await update("failed", 60);
  assertEquals([failed.status, failed.json.code], [409, "conflict"]);
});

Deno.test("a snapshot's data is read and checked on demand, with a deadline by its size", async () => {
  await using api = await TestApi.start();
  const sandbox_id = await api.createSandbox({ memory_mb: 4096, disk_size_mb: 20_480 });
  const { snapshot_id } = (await take(api, sandbox_id, "s")).json;
  assertEquals((await api.call("GET", "/v1/snapshots/s/contents")).json.verified, []);
  assertEquals((await api.call("GET", "/v1/snapshots/s/contents?verify=false")).json.verified, []);
  api.host.verdicts = [
    { file: "memory.data", verdict: "good", bytes: 8192n },
    { file: "disk.data", verdict: "damaged", bytes: 4096n },
  ];
  const verified = [
    { snapshot_id, file: "memory.data", verdict: "good", bytes: 8192 },
    { snapshot_id, file: "disk.data", verdict: "damaged", bytes: 4096 },
  ];
  const { status, json } = await api.call("GET", "/v1/snapshots/s/contents?verify=true");
  assertEquals([status, json.verified], [200, verified]);
  const asked = api.host.calls.filter(({ method }) => method === "inspectSnapshot").map(({ request }) =>
    request as Json
  );
  assertEquals(asked.map(({ verify }) => verify), [false, false, true]);
  assert(asked[0].timeoutMs <= 30_000 && asked[2].timeoutMs > 900_000, JSON.stringify(asked));
  await api.call("POST", `/v1/sandboxes/${sandbox_id}/pause`);
  const own = (await api.call("GET", `/v1/sandboxes/${sandbox_id}/snapshot?verify=true`)).json.verified;
  assertEquals(own.map((one: Json) => one.verdict), ["good", "damaged"]);
  api.host.manifestJson = "{ torn";
  const torn = (await api.call("GET", "/v1/snapshots/s/contents")).json;
  assertEquals([torn.manifest, torn.known_damage], [null, [verified[1]]]);
});

Deno.test("a spawn with other sizes than the snapshot's is refused with those that are baked in", async () => {
  await using api = await TestApi.start();
  const sandbox_id = await api.createSandbox({ memory_mb: 128, disk_size_mb: 64 });
  await take(api, sandbox_id, "s");
  const calls = api.host.calls.length;
  for (const other of [{ vcpus: 2 }, { memory_mb: 256 }, { disk_size_mb: 65 }, { template: "other" }]) {
    const { status, json } = await api.call("POST", "/v1/sandboxes", { json: { snapshot: "s", ...other } });
    assertEquals([status, json.code, json.field], [409, "snapshot_mismatch", Object.keys(other)[0]]);
    assert(json.message.includes("template base, vcpus 1, memory_mb 128, disk_size_mb 64"), json.message);
  }
  assertEquals(api.host.calls.length, calls);
});

Deno.test("wait=false answers with the operation; commands run while a checkpoint is taken", async () => {
  await using api = await TestApi.start();
  const sandbox_id = await api.createSandbox();
  const gate = Promise.withResolvers<void>();
  api.host.faults.gate = gate.promise;
  const json = { sandbox_id, name: "s" };
  const accepted = await api.call("POST", "/v1/snapshots?wait=false", { json });
  assertEquals([accepted.status, accepted.json.kind, accepted.json.state], [202, "snapshot", "running"]);
  assertEquals((await api.call("GET", "/v1/snapshots/s")).json.state, "creating");
  assertEquals((await api.call("GET", `/v1/sandboxes/${sandbox_id}`)).json.state, "snapshotting");
  const exec = await api.call("POST", `/v1/sandboxes/${sandbox_id}/exec`, { json: { cmd: "bytes" } });
  assertEquals(exec.status, 200, "the VM goes on");
  const spawn = await api.call("POST", "/v1/sandboxes", { json: { snapshot: "s" } });
  assertEquals([spawn.status, spawn.json.code], [409, "conflict"]);
  const contents = await api.call("GET", "/v1/snapshots/s/contents");
  assertEquals([contents.status, contents.json.code], [409, "conflict"]);
  const pause = api.call("POST", `/v1/sandboxes/${sandbox_id}/pause`);
  gate.resolve();
  assertEquals((await pause).json.state, "paused", "a pause waits for the checkpoint");
  const { state, snapshot_id } = (await api.call("GET", `/v1/operations/${accepted.json.operation_id}`)).json;
  assertEquals([state, snapshot_id], ["succeeded", (await api.call("GET", "/v1/snapshots/s")).json.snapshot_id]);
});

Deno.test("a repeated Idempotency-Key takes one snapshot and makes one set of children", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  const headers = { "idempotency-key": "k" };
  const snapshots = await Promise.all(
    Array.from({ length: 3 }, () => api.call("POST", `/v1/sandboxes/${id}/checkpoint`, { headers })),
  );
  assertEquals(new Set(snapshots.map(({ json }) => json.snapshot_id)).size, 1);
  const fork = (count: number) =>
    api.call("POST", `/v1/sandboxes/${id}/fork`, { json: { count }, headers: { "idempotency-key": "f" } });
  const forks = await Promise.all([fork(2), fork(2)]);
  assertEquals(forks[0]!.json.children, forks[1]!.json.children);
  assertEquals(api.host.sandboxes.size, 3);
  const other = await fork(3);
  assertEquals([other.status, other.json.code], [422, "idempotency_mismatch"]);
});

Deno.test("a fork answers with its children; one that fails leaves none", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox({ memory_mb: 128, metadata: { a: "b" } });
  const { status, json } = await api.call("POST", `/v1/sandboxes/${id}/fork`, { json: { count: 3 } });
  assertEquals([status, json.source.sandbox_id, json.source.state, json.stopped_us], [201, id, "running", 7000]);
  assertEquals(
    json.children.map((child: Json) => [child.state, child.metadata]),
    Array(3).fill(["running", { a: "b" }]),
  );
  assertEquals([api.host.kept.size, (await api.call("GET", "/v1/snapshots")).json.snapshots], [0, []]);
  const single = await api.call("POST", `/v1/sandboxes/${id}/fork`);
  assertEquals(single.json.children.length, 1, "one by default");

  api.host.faults.errors.createSandbox = new TorporError("vm_start_failed", "no");
  const failed = await api.call("POST", `/v1/sandboxes/${id}/fork`, { json: { count: 2 } });
  assertEquals([failed.status, failed.json.code], [500, "vm_start_failed"]);
  const { sandboxes } = (await api.call("GET", "/v1/status")).json;
  assertEquals([sandboxes, api.host.kept.size], [{ running: 5 }, 0]);

  const huge = await api.createSandbox({ memory_mb: 4096 }).catch(() => "");
  assertEquals(huge, "", "creates fail now");
  delete api.host.faults.errors.createSandbox;
  const big = await api.createSandbox({ memory_mb: 8192 });
  const full = await api.call("POST", `/v1/sandboxes/${big}/fork`, { json: { count: 8 } });
  assertEquals([full.status, full.json.code], [503, "no_capacity"]);
  assertMatch(full.json.message, /^the host that holds the snapshot has no room: fake: /);
});

Deno.test("a fork with wait=false is one operation, until all its children run or none is left", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  const begin = (headers = {}) =>
    api.call("POST", `/v1/sandboxes/${id}/fork?wait=false`, { json: { count: 2 }, headers });
  const operation = async (operation_id: string) => (await api.call("GET", `/v1/operations/${operation_id}`)).json;
  const ended = async (operation_id: string) => {
    for (;;) {
      const now = await operation(operation_id);
      if (now.state !== "running") return now;
    }
  };
  const gate = Promise.withResolvers<void>();
  api.host.faults.gate = gate.promise;
  const accepted = await begin({ "idempotency-key": "k" });
  const { operation_id, child_ids, kind, state, sandbox_id } = accepted.json;
  assertEquals([accepted.status, kind, state, sandbox_id, child_ids.length], [202, "fork", "running", id, 2]);
  assertEquals(await operation(operation_id), accepted.json);
  assertEquals((await begin({ "idempotency-key": "k" })).json, accepted.json, "a repeat");
  assertEquals((await begin()).json.code, "conflict", "one at a time");
  gate.resolve();
  const done = await ended(operation_id);
  assertEquals([done.state, done.error, done.child_ids], ["succeeded", null, child_ids]);
  for (const child of child_ids) assertEquals((await api.call("GET", `/v1/sandboxes/${child}`)).json.state, "running");
  const journal = (await api.call("GET", `/v1/sandboxes/${id}/operations`)).json.operations;
  assertEquals(journal.map((one: Json) => one.kind), ["fork", "create"]);
  assertEquals(journal[0], done);
  using operations = api.client(OperationService);
  const message = (await operations.getOperation({ operationId: operation_id })).operation!;
  assertEquals([message.kind, message.state, message.childIds], ["fork", "succeeded", child_ids]);
  const answer = await api.call("POST", `/v1/sandboxes/${id}/fork`, {
    json: { count: 2 },
    headers: { "idempotency-key": "k" },
  });
  assertEquals(answer.json.children.map((child: Json) => child.sandbox_id), child_ids, "with wait, the same fork");

  api.host.faults.errors.createSandbox = new TorporError("vm_start_failed", "no");
  const failed = await ended((await begin()).json.operation_id);
  assertEquals([failed.state, failed.error.code], ["failed", "vm_start_failed"]);
  assertEquals((await api.call("GET", "/v1/snapshots")).json.snapshots, []);
});

Deno.test("platform snapshots are made and deleted by the administrator only, and used by every team", async () => {
  await using api = await TestApi.start();
  const stranger = await otherTeamsKey(api);
  const sandbox_id = await api.createSandbox();
  const refused = await take(api, sandbox_id, "python", { platform: true });
  assertEquals([refused.status, refused.json.code], [403, "permission_denied"]);
  const made = await take(api, sandbox_id, "python", { platform: true }, api.token);
  assertEquals([made.status, made.json.platform], [201, true]);
  await take(api, sandbox_id, "private");

  const list = (await api.call("GET", "/v1/snapshots", { key: stranger })).json.snapshots;
  assertEquals(list.map((one: Json) => [one.name, one.sandbox_id]), [["python", null]]);
  assertEquals((await api.call("GET", "/v1/snapshots/private", { key: stranger })).status, 404);
  assertEquals((await api.call("DELETE", "/v1/snapshots/private", { key: stranger })).status, 404);
  const spawn = await api.call("POST", "/v1/sandboxes", { json: { snapshot: "python" }, key: stranger });
  assertEquals(spawn.status, 201);

  for (const key of [stranger, api.key]) {
    const { status, json } = await api.call("DELETE", "/v1/snapshots/python", { key });
    assertEquals([status, json.code], [403, "permission_denied"]);
  }
  assertEquals([api.host.kept.size, (await api.call("GET", "/v1/snapshots/python")).json.state], [2, "ready"]);
  assertEquals((await api.call("DELETE", "/v1/snapshots/python", { key: api.token })).status, 204);
  assertEquals(api.host.kept.size, 1);
});

Deno.test("a deletion that the host does not confirm is accepted", async () => {
  await using api = await TestApi.start();
  await take(api, await api.createSandbox(), "s");
  api.host.faults.errors.deleteSnapshot = new TorporError("unavailable", "not now");
  assertEquals((await api.call("DELETE", "/v1/snapshots/s")).status, 202);
  const { state, snapshot_id } = (await api.call("GET", "/v1/snapshots/s")).json;
  assertEquals(state, "deleting");
  delete api.host.faults.errors.deleteSnapshot;
  assertEquals((await api.call("DELETE", `/v1/snapshots/${snapshot_id}`)).status, 204);
});

Deno.test("what snapshots consist of, and what the hosts collect", async () => {
  await using api = await TestApi.start();
  const sandbox_id = await api.createSandbox();
  const { snapshot_id } = (await take(api, sandbox_id, "s")).json;
  const { status, json } = await api.call("GET", "/v1/snapshots/s/contents");
  assertEquals([status, json.manifest, json.disk, json.memory.extents], [200, { snapshot_id }, null, 2]);
  assertEquals(json.memory.sources, [{ snapshot_id, live_bytes: 4096, extents: 1, stored_bytes: 8192 }]);
  assertEquals(json.generations[0].created_at, "1970-01-01T00:00:00.001Z");
  await api.call("POST", `/v1/sandboxes/${sandbox_id}/pause`);
  const own = (await api.call("GET", `/v1/sandboxes/${sandbox_id}/snapshot`)).json;
  assertEquals(own.generations[0].generation, 1);

  const collect = await api.call("POST", "/v1/snapshots/collect", { json: { dry_run: true }, key: api.token });
  assertEquals([collect.status, collect.json.dry_run, collect.json.bytes], [200, true, 8192]);
  assertEquals(collect.json.hosts[0].collected[0].action, "unreferenced");
  assertEquals(api.host.calls.at(-1), { method: "collectSnapshots", request: true });
});

Deno.test("reclaim caps go to the host, hook outcomes come back with the pause and stay in the journal", async () => {
  await using api = await TestApi.start();
  const reclaim = { fstrim_ms: 100, sync_ms: 0, drop_caches_ms: 0, compact_memory_ms: 0 };
  const id = await api.createSandbox({ memory_mb: 128, reclaim: { fstrim_ms: 100 } });
  assertEquals((await api.call("GET", `/v1/sandboxes/${id}`)).json.reclaim, reclaim);
  const created = api.host.calls[0]!.request as { reclaim: { fstrimMs: number } };
  assertEquals(created.reclaim.fstrimMs, 100);
  const plain = await api.call("POST", `/v1/sandboxes/${id}/pause`);
  assertEquals([plain.status, plain.json.hooks], [200, []]);
  await api.call("POST", `/v1/sandboxes/${id}/resume`);
  const paused = await api.call("POST", `/v1/sandboxes/${id}/pause`, { json: { reclaim } });
  const hook = { step: "fstrim", outcome: "ok", error_number: 0, duration_us: 0, bytes_trimmed: 4096 };
  assertEquals(paused.json.hooks, [{ ...hook, free_bytes_before: 0, free_bytes_after: 0 }]);
  const operation = (await api.call("GET", `/v1/operations/${paused.json.operation_id}`)).json;
  assertEquals(operation.hooks, paused.json.hooks);
  assertEquals((await api.call("POST", `/v1/sandboxes/${id}/pause`)).json.hooks, [], "it was paused already");
});

Deno.test("the same over ConnectRPC", async () => {
  await using api = await TestApi.start();
  using sandboxes = api.client(SandboxService);
  using snapshots = api.client(SnapshotService);
  using admin = api.client(SnapshotService, api.token);
  const sandboxId = await api.createSandbox({ memory_mb: 128 });
  const { snapshot } = await snapshots.createSnapshot({ sandboxId, name: "s" });
  assertEquals([snapshot!.state, snapshot!.stoppedUs, snapshot!.sizes!.sizeBytes], ["ready", 7000n, 8192n]);
  assertEquals((await snapshots.getSnapshot({ snapshot: "s" })).snapshot, snapshot);
  assertEquals((await snapshots.listSnapshots({})).snapshots, [snapshot!]);
  const { sandbox } = await sandboxes.createSandbox({ snapshot: "s" });
  assertEquals([sandbox!.memoryMb, sandbox!.sourceSnapshotId], [128, snapshot!.snapshotId]);
  const mismatch = await assertRejects(() => sandboxes.createSandbox({ snapshot: "s", memoryMb: 256 }), TorporError);
  assertEquals([mismatch.code, mismatch.field], ["snapshot_mismatch", "memory_mb"]);
  const { children, source, stoppedUs } = await sandboxes.forkSandbox({ sandboxId, count: 2 });
  assertEquals([children.length, source!.sandboxId, stoppedUs], [2, sandboxId, 7000n]);
  const { snapshot: checkpoint } = await sandboxes.checkpointSandbox({ sandboxId });
  assertEquals(checkpoint!.kind, "checkpoint");
  const { contents } = await snapshots.inspectSnapshot({ snapshot: "s" });
  assertEquals([contents!.memory!.sources[0]!.storedBytes, contents!.generations.length], [8192n, 1]);
  const { hooks } = await sandboxes.pauseSandbox({ sandboxId, reclaim: { fstrimMs: 5 } });
  assertEquals(hooks.map(({ step, bytesTrimmed }) => [step, bytesTrimmed]), [["fstrim", 4096n]]);
  assertEquals((await sandboxes.inspectSandbox({ sandboxId })).contents!.generations[0]!.committed, true);
  assertEquals(
    await assertRejects(() => snapshots.collectSnapshots({}), TorporError).then(({ code }) => code),
    "permission_denied",
  );
  assertEquals((await admin.collectSnapshots({ dryRun: true })).hosts[0]!.bytes, 8192n);
  assertEquals(contents!.verified, []);
  const checked = await snapshots.inspectSnapshot({ snapshot: "s", verify: true });
  assertEquals(checked.contents!.verified.map(({ verdict, bytes }) => [verdict, bytes]), [["good", 8192n]]);
  assertEquals((await sandboxes.inspectSandbox({ sandboxId, verify: true })).contents!.verified.length, 1);
  api.host.verdicts = [{ file: "state", verdict: "missing", bytes: 0n }];
  const { knownDamage } = (await snapshots.inspectSnapshot({ snapshot: "s" })).contents!;
  assertEquals(knownDamage.map(({ file, verdict }) => [file, verdict]), [["state", "missing"]]);
  assertEquals(snapshot!.expiresAt, undefined);
  assert((await snapshots.updateSnapshot({ snapshot: "s", expiresInSec: 60 })).snapshot!.expiresAt!.seconds > 0n);
  assertEquals((await snapshots.updateSnapshot({ snapshot: "s", expiresInSec: 0 })).snapshot!.expiresAt, undefined);
  const unsaid = await assertRejects(() => snapshots.updateSnapshot({ snapshot: "s" }), TorporError);
  assertEquals([unsaid.code, unsaid.field], ["invalid_argument", "expires_in_sec"]);
  assert((await snapshots.createSnapshot({ sandboxId, name: "t", expiresInSec: 60 })).snapshot!.expiresAt);
  assert((await sandboxes.checkpointSandbox({ sandboxId, expiresInSec: 60 })).snapshot!.expiresAt);
  assertEquals((await snapshots.deleteSnapshot({ snapshot: "s" })).confirmed, true);
  for (const snapshot of ["", "S", "nowhere"]) {
    const error = await assertRejects(() => snapshots.getSnapshot({ snapshot }), TorporError);
    assertEquals(error.code, snapshot === "nowhere" ? "snapshot_not_found" : "invalid_argument");
  }
});
