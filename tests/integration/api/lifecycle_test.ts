import { assert, assertEquals, assertMatch } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { TestApi } from "./harness.ts";

Deno.test("a sandbox is created, paused, resumed and deleted over REST", async () => {
  await using api = await TestApi.start();
  const created = await api.call("POST", "/v1/sandboxes", {
    json: { vcpus: 2, memory_mb: 256, timeout_sec: 60, env: { SECRET: "s" }, metadata: { project: "grüße" } },
  });
  assertEquals(created.status, 201);
  const { sandbox_id, ...shown } = created.json;
  assertMatch(sandbox_id, /^[a-z0-9]{20}$/);
  assertEquals(
    [shown.state, shown.template, shown.vcpus, shown.memory_mb, shown.disk_size_mb, shown.timeout_sec],
    ["running", "base", 2, 256, 5120, 60],
  );
  assertEquals([shown.metadata, shown.accelerator, shown.host_id], [{ project: "grüße" }, "tcg", api.host.hostId]);
  assertEquals([shown.snapshot, shown.paused_at], [null, null]);
  assert(!created.text.includes("SECRET"), "the environment can hold secrets");
  assertMatch(created.headers.get("server-timing")!, /^total;dur=[0-9.]+$/);

  const path = `/v1/sandboxes/${sandbox_id}`;
  const paused = await api.call("POST", `${path}/pause`);
  assertEquals([paused.status, paused.json.state, paused.json.snapshot.generation], [200, "paused", 1]);
  assertEquals([paused.json.accelerator, paused.json.version > shown.version], [null, true]);
  assertEquals((await api.call("POST", `${path}/sleep`)).json.snapshot.generation, 1, "a paused one stays as it is");

  const resumed = await api.call("POST", `${path}/wake`, { json: { timeout_sec: 7 } });
  assertEquals([resumed.status, resumed.json.state, resumed.json.timeout_sec], [200, "running", 7]);
  assertEquals((await api.call("POST", `${path}/resume`)).json.state, "running", "a running one stays as it is");
  assertEquals((await api.call("POST", `${path}/sleep`)).json.snapshot.generation, 2);

  assertEquals((await api.call("DELETE", path)).status, 204);
  assertEquals((await api.call("DELETE", path)).status, 204, "repeats are fine");
  assertEquals((await api.call("GET", path)).status, 404);
  assertEquals(api.host.sandboxes.size, 0);
  const kinds = (await api.call("GET", `${path}/operations`)).json.operations.map((o: { kind: string }) => o.kind);
  assertEquals(kinds, ["delete", "pause", "resume", "pause", "create"]);
});

Deno.test("defaults apply when the body is left out", async () => {
  await using api = await TestApi.start();
  const { status, json } = await api.call("POST", "/v1/sandboxes");
  assertEquals([status, json.vcpus, json.memory_mb, json.timeout_sec], [201, 1, 512, 0]);
});

Deno.test("wait=false answers with the operation, which can be followed to its end", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  const gate = Promise.withResolvers<void>();
  api.host.faults.gate = gate.promise;
  const accepted = await api.call("POST", `/v1/sandboxes/${id}/pause?wait=false`);
  assertEquals([accepted.status, accepted.json.kind, accepted.json.state], [202, "pause", "running"]);
  const path = `/v1/operations/${accepted.json.operation_id}`;
  assertEquals((await api.call("GET", path)).json.finished_at, null);
  assertEquals((await api.call("GET", `/v1/sandboxes/${id}`)).json.state, "pausing");
  const joined = api.call("POST", `/v1/sandboxes/${id}/pause`);
  gate.resolve();
  assertEquals((await joined).json.state, "paused");
  const ended = (await api.call("GET", path)).json;
  assertEquals([ended.state, ended.error], ["succeeded", null]);
  assertEquals((await api.call("POST", `/v1/sandboxes/${id}/pause?wait=false`)).status, 200, "nothing to wait for");
});

Deno.test("a client that leaves cancels nothing that has begun", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  const gate = Promise.withResolvers<void>();
  api.host.faults.gate = gate.promise;
  const leaving = new AbortController();
  const request = api.open("POST", `/v1/sandboxes/${id}/pause`, {}, leaving.signal);
  const { operation_id } = (await api.call("POST", `/v1/sandboxes/${id}/pause?wait=false`)).json;
  leaving.abort();
  await request.then(() => assert(false, "it was answered"), () => {});
  gate.resolve();
  assertEquals((await api.call("POST", `/v1/sandboxes/${id}/pause`)).json.operation_id, operation_id);
});

Deno.test("a repeated Idempotency-Key returns the first answer, with another body it is refused", async () => {
  await using api = await TestApi.start();
  const create = (json: unknown) =>
    api.call("POST", "/v1/sandboxes", { json, headers: { "idempotency-key": "order 7" } });
  const [first, second] = await Promise.all([create({ memory_mb: 128 }), create({ memory_mb: 128 })]);
  assertEquals([first.status, second.status], [201, 201]);
  assertEquals(first.json.sandbox_id, second.json.sandbox_id);
  assertEquals(api.host.sandboxes.size, 1);
  const other = await create({ memory_mb: 256 });
  assertEquals([other.status, other.json.code], [422, "idempotency_mismatch"]);
});

Deno.test("a state that does not allow a call is a conflict that tells what to do", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  await api.call("POST", `/v1/sandboxes/${id}/pause`);
  for (
    const [method, path] of [
      ["POST", "ping"],
      ["GET", "files?path=/x"],
      ["PUT", "files?path=/x"],
      ["GET", "processes"],
      ["GET", "memory"],
    ] as const
  ) {
    const { status, json } = await api.call(method, `/v1/sandboxes/${id}/${path}`);
    assertEquals([status, json.code], [409, "conflict"], path);
    assertMatch(json.hint, /resume/);
  }
  const exec = await api.call("POST", `/v1/sandboxes/${id}/exec/stream`, { json: { cmd: "hello" } });
  assertEquals([exec.status, exec.json.code], [409, "conflict"]);
});

Deno.test("a host that fails: the error's code, the state after it, and a Retry-After where one helps", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  api.host.faults.errors.pauseSandbox = new TorporError("pause_failed", "the disk is full");
  const failed = await api.call("POST", `/v1/sandboxes/${id}/pause`);
  assertEquals([failed.status, failed.json.code], [500, "pause_failed"]);
  assertEquals(
    (await api.call("GET", `/v1/sandboxes/${id}`)).json.state,
    "running",
    "a failed pause leaves it running",
  );

  const huge = await api.call("POST", "/v1/sandboxes", { json: { memory_mb: 65536 } });
  assertEquals([huge.status, huge.json.code], [503, "no_capacity"]);
  assert(Number(huge.headers.get("retry-after")) > 0);
});

Deno.test("lists are pages, newest first, filtered by state and metadata", async () => {
  await using api = await TestApi.start();
  const ids: string[] = [];
  for (const project of ["a", "b", "a"]) {
    ids.unshift(await api.createSandbox({ memory_mb: 128, metadata: { project } }));
  }
  const list = async (query: string) => (await api.call("GET", `/v1/sandboxes?${query}`)).json;
  const idsOf = (page: { sandboxes: { sandbox_id: string }[] }) => page.sandboxes.map((s) => s.sandbox_id);
  const first = await list("limit=2");
  assertEquals(idsOf(first), ids.slice(0, 2));
  const second = await list(`limit=2&cursor=${encodeURIComponent(first.next_cursor)}`);
  assertEquals([idsOf(second), second.next_cursor], [ids.slice(2), null]);
  assertEquals(idsOf(await list("metadata.project=a")), [ids[0], ids[2]]);
  assertEquals(idsOf(await list("metadata.project=a&metadata.other=x")), []);
  await api.call("POST", `/v1/sandboxes/${ids[1]}/pause`);
  assertEquals(idsOf(await list("state=paused")), [ids[1]]);
  assertEquals(idsOf(await list("state=paused&state=running")).length, 3);
  await api.call("DELETE", `/v1/sandboxes/${ids[1]}`);
  assertEquals(idsOf(await list("")), [ids[0], ids[2]]);
  assertEquals(idsOf(await list("state=deleted")), [ids[1]]);
  const { sandboxes } = (await api.call("GET", "/v1/status")).json;
  assertEquals(sandboxes, { running: 2 });
});
