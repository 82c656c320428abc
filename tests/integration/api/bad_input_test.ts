import { assert, assertEquals } from "@std/assert";
import { type CallOptions, type Json, TestApi } from "./harness.ts";

/** A request that must be refused: method, path, options, and the status and code (and field) of the answer. */
type Refused = [method: string, path: string, options: CallOptions, status: number, code: string, field?: string];

const DEEP = "[".repeat(100_000) + "]".repeat(100_000);
const UNKNOWN = "a".repeat(20);

async function expectRefused(api: TestApi, table: Refused[]): Promise<void> {
  for (const [method, path, options, status, code, field] of table) {
    const shown = `${method} ${path.slice(0, 100)} ${JSON.stringify(options).slice(0, 120)}`;
    const answer = await api.call(method, path, options);
    assertEquals([answer.status, answer.json?.code], [status, code], `${shown}: ${answer.text.slice(0, 200)}`);
    if (field !== undefined) assertEquals(answer.json.field, field, shown);
    assert(answer.json.message.length > 0 && answer.text.length < 2000, `${shown}: ${answer.text}`);
    assert(!answer.text.includes("/work/") && !answer.text.includes(".ts:"), "no stack and no path of the server");
  }
}

const json = (value: unknown): CallOptions => ({ json: value });
const raw = (body: BodyInit): CallOptions => ({ body, headers: { "content-type": "application/json" } });

Deno.test("bad input of create and list", async () => {
  await using api = await TestApi.start();
  const invalid = (value: unknown, field: string): Refused => [
    "POST",
    "/v1/sandboxes",
    json(value),
    422,
    "invalid_argument",
    field,
  ];
  await expectRefused(api, [
    invalid({ memory_mb: 127 }, "memory_mb"),
    invalid({ memory_mb: 65537 }, "memory_mb"),
    invalid({ memory_mb: 1e300 }, "memory_mb"),
    invalid({ memory_mb: 128.5 }, "memory_mb"),
    invalid({ memory_mb: "512" }, "memory_mb"),
    invalid({ memory_mb: null }, "memory_mb"),
    invalid({ memory_mb: [512] }, "memory_mb"),
    invalid({ vcpus: 0 }, "vcpus"),
    invalid({ vcpus: 17 }, "vcpus"),
    invalid({ disk_size_mb: 63 }, "disk_size_mb"),
    invalid({ disk_size_mb: 2 ** 53 }, "disk_size_mb"),
    invalid({ timeout_sec: -1 }, "timeout_sec"),
    invalid({ timeout_sec: 604801 }, "timeout_sec"),
    invalid({ auto_delete_after_sec: -1 }, "auto_delete_after_sec"),
    invalid({ auto_delete_after_sec: 1.5 }, "auto_delete_after_sec"),
    invalid({ ttl_sec: 315_360_001 }, "ttl_sec"),
    invalid({ ttl_sec: "1h" }, "ttl_sec"),
    invalid({ on_ttl: "explode" }, "on_ttl"),
    invalid({ on_ttl: null }, "on_ttl"),
    invalid({ host_labels: { zone: 1 } }, "host_labels.zone"),
    invalid({ host_labels: { "": "a" } }, "host_labels."),
    invalid({ host_labels: { zone: "a\0" } }, "host_labels.zone"),
    invalid({ host_labels: ["zone"] }, "host_labels"),
    invalid({ required_capabilities: "kvm" }, "required_capabilities"),
    invalid({ required_capabilities: [""] }, "required_capabilities.0"),
    invalid({ required_capabilities: ["x".repeat(10_000)] }, "required_capabilities.0"),
    invalid({ template: "../base" }, "template"),
    invalid({ template: "" }, "template"),
    invalid({ env: { "A B": "x" } }, "env.A B"),
    invalid({ env: { "": "x" } }, "env."),
    invalid({ env: { A: 1 } }, "env.A"),
    invalid({ env: { A: "a\0b" } }, "env.A"),
    invalid({ env: { A: "x".repeat(20_000) } }, "env.A"),
    invalid({ env: Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`A${i}`, ""])) }, "env"),
    invalid({ env: [] }, "env"),
    invalid({ metadata: { a: { b: "c" } } }, "metadata.a"),
    invalid({ metadata: { a: "\ud800" } }, "metadata.a"),
    invalid({ metadata: { "a\0": "b" } }, "metadata.a\0"),
    invalid({ metadata: { a: "x".repeat(1025) } }, "metadata.a"),
    invalid({ metadata: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, "v"])) }, "metadata"),
    invalid({ memory: 512 }, "memory"),
    invalid({ snapshot: "" }, "snapshot"),
    invalid({ snapshot: "../../etc" }, "snapshot"),
    invalid({ snapshot: 7 }, "snapshot"),
    invalid({ reclaim: { fstrim_ms: -1 } }, "reclaim.fstrim_ms"),
    invalid({ reclaim: { fstrim_ms: 60_001 } }, "reclaim.fstrim_ms"),
    invalid({ reclaim: { fstrim: 1 } }, "reclaim.fstrim"),
    ["POST", "/v1/sandboxes", json({ snapshot: "nowhere" }), 404, "snapshot_not_found"],
    ["POST", "/v1/sandboxes", json([]), 422, "invalid_argument"],
    ["POST", "/v1/sandboxes", raw("null"), 422, "invalid_argument"],
    ["POST", "/v1/sandboxes", raw("{"), 422, "invalid_argument", "body"],
    ["POST", "/v1/sandboxes", raw('{"memory_mb":1e999}'), 422, "invalid_argument", "memory_mb"],
    ["POST", "/v1/sandboxes", raw(Uint8Array.of(0xff, 0xfe, 0x00)), 422, "invalid_argument", "body"],
    ["POST", "/v1/sandboxes", raw(DEEP), 422, "invalid_argument"],
    ["POST", "/v1/sandboxes", raw(`{"env":${DEEP}}`), 422, "invalid_argument", "env"],
    ["POST", "/v1/sandboxes", raw("x".repeat(2 ** 20 + 1)), 413, "payload_too_large", "body"],
    ["POST", "/v1/sandboxes", { body: "memory_mb=128" }, 415, "unsupported_media_type"],
    [
      "POST",
      "/v1/sandboxes",
      { body: "{}", headers: { "content-type": "application/jsonp" } },
      415,
      "unsupported_media_type",
    ],
    ["POST", "/v1/sandboxes?wait=maybe", json({}), 422, "invalid_argument", "wait"],
    [
      "POST",
      "/v1/sandboxes",
      { json: {}, headers: { "idempotency-key": "x".repeat(201) } },
      422,
      "invalid_argument",
      "idempotency-key",
    ],
    ["GET", "/v1/sandboxes?state=sleeping", {}, 422, "invalid_argument", "state.0"],
    ["GET", "/v1/sandboxes?limit=0", {}, 422, "invalid_argument", "limit"],
    ["GET", "/v1/sandboxes?limit=1001", {}, 422, "invalid_argument", "limit"],
    ["GET", "/v1/sandboxes?limit=1e2", {}, 422, "invalid_argument", "limit"],
    ["GET", "/v1/sandboxes?limit=", {}, 422, "invalid_argument", "limit"],
    ["GET", "/v1/sandboxes?cursor=zzz", {}, 422, "invalid_argument", "cursor"],
    ["GET", `/v1/sandboxes?cursor=${btoa(`-8640000000000000.${UNKNOWN}`)}`, {}, 422, "invalid_argument", "cursor"],
    ["GET", `/v1/sandboxes?cursor=${btoa(`8640000000000000.${UNKNOWN}`)}`, {}, 422, "invalid_argument", "cursor"],
    ["GET", `/v1/sandboxes?cursor=${"A".repeat(300)}`, {}, 422, "invalid_argument", "cursor"],
    ["GET", "/v1/sandboxes?metadata.a=%00", {}, 422, "invalid_argument", "metadata.a"],
    ["GET", "/v1/sandboxes?metadata.=x", {}, 422, "invalid_argument"],
    ["GET", "/v1/sandboxes?states=running", {}, 422, "invalid_argument", "states"],
  ]);
  assertEquals(api.host.calls, [], "nothing reached the host");
});

Deno.test("a JSON body that is empty asks for {}, with a length and without", async () => {
  await using api = await TestApi.start();
  // A stream has no length: it is sent in chunks, of which there are none.
  const bodies = [() => "", () => new ReadableStream<Uint8Array>({ start: (stream) => stream.close() })];
  for (const body of bodies) {
    const created = await api.call("POST", "/v1/sandboxes", raw(body()));
    assertEquals(created.status, 201, created.text);
    const path = `/v1/sandboxes/${created.json.sandbox_id}`;
    for (const verb of ["pause", "resume", "checkpoint"]) {
      const answer = await api.call("POST", `${path}/${verb}`, raw(body()));
      assert(answer.status < 300, `${verb}: ${answer.text}`);
    }
    await expectRefused(api, [["POST", "/v1/snapshots", raw(body()), 422, "invalid_argument", "sandbox_id"]]);
    // What is there is read all the same.
    const sent = new Blob(['{"timeout_sec": -1}']).stream();
    await expectRefused(api, [["POST", `${path}/resume`, raw(sent), 422, "invalid_argument", "timeout_sec"]]);
  }
});

Deno.test("bad input of snapshots", async () => {
  await using api = await TestApi.start();
  const sandbox_id = await api.createSandbox();
  const calls = api.host.calls.length;
  const create = (value: unknown, field: string): Refused => [
    "POST",
    "/v1/snapshots",
    json(value),
    422,
    "invalid_argument",
    field,
  ];
  const checkpoint = (value: unknown, field: string): Refused => [
    "POST",
    `/v1/sandboxes/${sandbox_id}/checkpoint`,
    json(value),
    422,
    "invalid_argument",
    field,
  ];
  const update = (value: unknown, field: string): Refused => [
    "PATCH",
    "/v1/snapshots/nowhere",
    json(value),
    422,
    "invalid_argument",
    field,
  ];
  const fork = (value: unknown, field: string): Refused => [
    "POST",
    `/v1/sandboxes/${sandbox_id}/fork`,
    json(value),
    422,
    "invalid_argument",
    field,
  ];
  await expectRefused(api, [
    create({}, "sandbox_id"),
    create({ sandbox_id: "../x", name: "a" }, "sandbox_id"),
    create({ sandbox_id }, "name"),
    create({ sandbox_id, name: "" }, "name"),
    create({ sandbox_id, name: "A" }, "name"),
    create({ sandbox_id, name: "a/b" }, "name"),
    create({ sandbox_id, name: ".." }, "name"),
    create({ sandbox_id, name: "a\0" }, "name"),
    create({ sandbox_id, name: "a".repeat(64) }, "name"),
    create({ sandbox_id, name: UNKNOWN }, "name"),
    create({ sandbox_id, name: "a", platform: "yes" }, "platform"),
    create({ sandbox_id, name: "a", kind: "fork" }, "kind"),
    create({ sandbox_id, name: "a", expires_in_sec: -1 }, "expires_in_sec"),
    create({ sandbox_id, name: "a", expires_in_sec: 315_360_001 }, "expires_in_sec"),
    create({ sandbox_id, name: "a", expires_in_sec: 1e300 }, "expires_in_sec"),
    create({ sandbox_id, name: "a", expires_in_sec: 1.5 }, "expires_in_sec"),
    create({ sandbox_id, name: "a", expires_in_sec: "7d" }, "expires_in_sec"),
    create({ sandbox_id, name: "a", expires_in_sec: null }, "expires_in_sec"),
    create({ sandbox_id, name: "a", expires_at: "2030-01-01T00:00:00Z" }, "expires_at"),
    checkpoint({ expires_in_sec: -1 }, "expires_in_sec"),
    checkpoint({ expires_in_sec: [60] }, "expires_in_sec"),
    checkpoint({ name: "a" }, "name"),
    ["POST", `/v1/sandboxes/${sandbox_id}/checkpoint`, raw("{"), 422, "invalid_argument", "body"],
    ["POST", `/v1/sandboxes/${sandbox_id}/checkpoint`, { body: "x" }, 415, "unsupported_media_type"],
    update({}, "expires_in_sec"),
    update({ expires_in_sec: -1 }, "expires_in_sec"),
    update({ expires_in_sec: 2 ** 31 }, "expires_in_sec"),
    update({ expires_in_sec: "0" }, "expires_in_sec"),
    update({ expires_in_sec: null }, "expires_in_sec"),
    update({ expires_in_sec: 60, name: "b" }, "name"),
    ["PATCH", "/v1/snapshots/nowhere", {}, 422, "invalid_argument"],
    ["PATCH", "/v1/snapshots/nowhere", raw("{"), 422, "invalid_argument", "body"],
    ["PATCH", "/v1/snapshots/nowhere", raw(DEEP), 422, "invalid_argument"],
    ["PATCH", "/v1/snapshots/nowhere", { body: "expires_in_sec=1" }, 415, "unsupported_media_type"],
    ["PATCH", "/v1/snapshots/nowhere", raw("x".repeat(2 ** 20 + 1)), 413, "payload_too_large", "body"],
    ["PATCH", "/v1/snapshots/..%2fx", json({ expires_in_sec: 60 }), 422, "invalid_argument", "snapshot"],
    ["PATCH", "/v1/snapshots/nowhere", json({ expires_in_sec: 60 }), 404, "snapshot_not_found"],
    ["PATCH", `/v1/snapshots/${UNKNOWN}`, json({ expires_in_sec: 60 }), 404, "snapshot_not_found"],
    ["POST", "/v1/snapshots", {}, 422, "invalid_argument"],
    ["POST", "/v1/snapshots", raw("{"), 422, "invalid_argument", "body"],
    ["POST", "/v1/snapshots", raw(DEEP), 422, "invalid_argument"],
    ["POST", "/v1/snapshots", { body: "x" }, 415, "unsupported_media_type"],
    ["POST", "/v1/snapshots", raw("x".repeat(2 ** 20 + 1)), 413, "payload_too_large", "body"],
    ["POST", "/v1/snapshots", json({ sandbox_id: UNKNOWN, name: "a" }), 404, "sandbox_not_found"],
    ["POST", "/v1/snapshots", json({ sandbox_id, name: "a", platform: true }), 403, "permission_denied"],
    ["POST", "/v1/snapshots?wait=1", json({ sandbox_id, name: "a" }), 422, "invalid_argument", "wait"],
    ["GET", "/v1/snapshots?limit=0", {}, 422, "invalid_argument", "limit"],
    ["GET", "/v1/snapshots?cursor=zzz", {}, 422, "invalid_argument", "cursor"],
    ["GET", "/v1/snapshots?name=a", {}, 422, "invalid_argument", "name"],
    ["GET", "/v1/snapshots/nowhere", {}, 404, "snapshot_not_found"],
    ["GET", "/v1/snapshots/NOWHERE", {}, 422, "invalid_argument", "snapshot"],
    ["GET", "/v1/snapshots/..%2fx", {}, 422, "invalid_argument", "snapshot"],
    ["GET", "/v1/snapshots/nowhere/contents", {}, 404, "snapshot_not_found"],
    ["GET", "/v1/snapshots/nowhere/contents?verify=true", {}, 404, "snapshot_not_found"],
    ["GET", "/v1/snapshots/nowhere/contents?verify=1", {}, 422, "invalid_argument", "verify"],
    ["GET", "/v1/snapshots/nowhere/contents?verify=", {}, 422, "invalid_argument", "verify"],
    ["GET", "/v1/snapshots/nowhere/contents?check=true", {}, 422, "invalid_argument", "check"],
    ["GET", `/v1/sandboxes/${sandbox_id}/snapshot`, {}, 404, "snapshot_not_found"],
    ["GET", `/v1/sandboxes/${sandbox_id}/snapshot?verify=yes`, {}, 422, "invalid_argument", "verify"],
    ["DELETE", "/v1/snapshots/nowhere", {}, 404, "snapshot_not_found"],
    ["DELETE", `/v1/snapshots/${"a".repeat(64)}`, {}, 422, "invalid_argument", "snapshot"],
    ["POST", "/v1/snapshots/collect", json({ dry_run: true }), 403, "permission_denied"],
    ["POST", "/v1/snapshots/collect", { ...json({ dry_run: 1 }), key: api.token }, 422, "invalid_argument", "dry_run"],
    ["POST", `/v1/sandboxes/${sandbox_id}/checkpoint?wait=no`, {}, 422, "invalid_argument", "wait"],
    fork({ count: 0 }, "count"),
    fork({ count: 33 }, "count"),
    fork({ count: 1.5 }, "count"),
    fork({ count: "2" }, "count"),
    fork({ metadata: { a: 1 } }, "metadata.a"),
    fork({ timeout_sec: -1 }, "timeout_sec"),
    fork({ children: 2 }, "children"),
    fork({ wait: false }, "wait"),
    ["POST", `/v1/sandboxes/${sandbox_id}/fork?wait=0`, json({}), 422, "invalid_argument", "wait"],
    ["POST", `/v1/sandboxes/${UNKNOWN}/fork?wait=false`, json({}), 404, "sandbox_not_found"],
  ]);
  assertEquals(api.host.calls.length, calls, "nothing reached the host");
});

Deno.test("bad input of everything about one sandbox", async () => {
  await using api = await TestApi.start();
  const at = `/v1/sandboxes/${await api.createSandbox()}`;
  const calls = api.host.calls.length;
  const exec = (value: unknown, field: string): Refused => [
    "POST",
    `${at}/exec`,
    json(value),
    422,
    "invalid_argument",
    field,
  ];
  await expectRefused(api, [
    exec({}, "cmd"),
    exec({ cmd: "" }, "cmd"),
    exec({ cmd: 7 }, "cmd"),
    exec({ cmd: "a\0b" }, "cmd"),
    exec({ cmd: "a", args: ["\0"] }, "args.0"),
    exec({ cmd: "a", args: "b" }, "args"),
    exec({ cmd: "a", args: Array(1025).fill("") }, "args"),
    exec({ cmd: "a".repeat(50_000) }, "cmd"),
    exec({ cmd: "a", args: ["b".repeat(39_000), "c".repeat(39_000)] }, "cmd"),
    exec({ cmd: "a", timeout_sec: -1 }, "timeout_sec"),
    exec({ cmd: "a", timeout_sec: 86_401 }, "timeout_sec"),
    exec({ cmd: "a", user: "Ro ot" }, "user"),
    exec({ cmd: "a", working_directory: "\0" }, "working_directory"),
    exec({ cmd: "a", stdin: "%", stdin_encoding: "base64" }, "stdin"),
    exec({ cmd: "a", stdin_encoding: "latin1" }, "stdin_encoding"),
    exec({ cmd: "a", stdin: "x".repeat(17 * 2 ** 20) }, "stdin"),
    ["POST", `${at}/exec`, raw(`"${"x".repeat(24 * 2 ** 20)}"`), 413, "payload_too_large", "body"],
    ["POST", `${at}/exec`, {}, 422, "invalid_argument", "cmd"],
    [
      "POST",
      `${at}/exec/stream`,
      json({ cmd: "a", keep_stdin_open: "yes" }),
      422,
      "invalid_argument",
      "keep_stdin_open",
    ],
    ["POST", `${at}/processes/0/stdin`, json({}), 422, "invalid_argument", "pid"],
    ["POST", `${at}/processes/99999999/stdin`, json({}), 422, "invalid_argument", "pid"],
    ["POST", `${at}/processes/4194305/signal`, json({}), 422, "invalid_argument", "pid"],
    ["POST", `${at}/processes/7/signal`, json({ signal: 65 }), 422, "invalid_argument", "signal"],
    ["POST", `${at}/processes/7/signal`, json({ signal: "KILL" }), 422, "invalid_argument", "signal"],
    ["POST", `${at}/resume`, json({ timeout_sec: "1" }), 422, "invalid_argument", "timeout_sec"],
    ["POST", `${at}/pause`, json({ reclaim: { sync_ms: "1" } }), 422, "invalid_argument", "reclaim.sync_ms"],
    ["POST", `${at}/pause`, json({ reclaim: [] }), 422, "invalid_argument", "reclaim"],
    ["GET", `${at}/files`, {}, 422, "invalid_argument", "path"],
    ["GET", `${at}/files?path=`, {}, 422, "invalid_argument", "path"],
    ["GET", `${at}/files?path=%00`, {}, 422, "invalid_argument", "path"],
    ["GET", `${at}/files?path=/x&user=..%2Froot`, {}, 422, "invalid_argument", "user"],
    ["GET", `${at}/files?path=${"a".repeat(4097)}`, {}, 422, "invalid_argument", "path"],
    ["PUT", `${at}/files?path=/x&mode=999`, { body: "x" }, 422, "invalid_argument", "mode"],
    ["PUT", `${at}/files?path=/x&mode=77777`, { body: "x" }, 422, "invalid_argument", "mode"],
    ["GET", `${at}/files/list?path=/&depth=33`, {}, 422, "invalid_argument", "depth"],
    ["GET", `${at}/files/list?path=/&depth=-1`, {}, 422, "invalid_argument", "depth"],
    ["DELETE", `${at}/files?path=/x&recursive=1`, {}, 422, "invalid_argument", "recursive"],
    ["POST", `${at}/files/mkdir`, json({ path: 7 }), 422, "invalid_argument", "path"],
    ["DELETE", `${at}?wait=no`, {}, 422, "invalid_argument", "wait"],
    ["GET", "/v1/traces?limit=x", {}, 422, "invalid_argument", "limit"],
    ["GET", "/v1/traces?sandbox_id=x", {}, 422, "invalid_argument", "sandbox_id"],
    ["GET", "/v1/traces/XYZ", {}, 422, "invalid_argument", "trace_id"],
    ["GET", `/v1/traces/${"0".repeat(32)}`, {}, 404, "trace_not_found"],
    ["GET", `/v1/operations/${UNKNOWN}`, {}, 404, "operation_not_found"],
    ["GET", "/v1/operations/..%2f..", {}, 422, "invalid_argument", "operation_id"],
  ]);
  assertEquals(api.host.calls.length, calls, "nothing reached the host");
});

/** Every operation of the description, its path parameters filled in. */
async function everyOperation(api: TestApi, sandboxId: string): Promise<{ method: string; path: string }[]> {
  const { paths } = (await api.call("GET", "/openapi.json", { key: "" })).json as Json;
  return Object.entries(paths as Record<string, object>).flatMap(([template, methods]) => {
    const path = template.replace("{sandbox_id}", sandboxId).replace("{operation_id}", UNKNOWN).replace("{pid}", "7")
      .replace("{port}", "8080")
      .replace("{snapshot}", UNKNOWN)
      .replace("{trace_id}", "a".repeat(32));
    return Object.keys(methods).map((method) => ({ method: method.toUpperCase(), path }));
  });
}

Deno.test("each endpoint: no key, a wrong key, an unknown or malformed sandbox, a wrong method", async () => {
  await using api = await TestApi.start();
  const operations = await everyOperation(api, UNKNOWN);
  assert(operations.length >= 27, `only ${operations.length} operations are described`);
  for (const { method, path } of operations) {
    const shown = `${method} ${path}`;
    for (const key of ["", "e2b_", `e2b_${"0".repeat(40)}`, "x".repeat(8000)]) {
      const { status, json } = await api.call(method, path, { key });
      assertEquals([status, json.code], [401, "unauthenticated"], shown);
    }
    const wrong = await api.call("PROPFIND", path);
    assertEquals([wrong.status, wrong.json.code], [405, "method_not_allowed"], shown);
    assert(wrong.headers.get("allow")!.includes(method), shown);
    if (!path.startsWith(`/v1/sandboxes/${UNKNOWN}`)) continue;
    const query = path.includes("/files") ? "?path=/x" : "";
    const unknown = await api.call(method, `${path}${query}`, bodyFor(method, path));
    assertEquals([unknown.status, unknown.json.code], [404, "sandbox_not_found"], shown);
    for (const id of ["x", "A".repeat(20), "%2e%2e", "%ff", "%00", "'or 1=1--", "ä"]) {
      const odd = await api.call(method, `${path.replace(UNKNOWN, id)}${query}`, bodyFor(method, path));
      assert([404, 422].includes(odd.status), `${method} with id ${id}: ${odd.status} ${odd.text}`);
    }
  }
});

/** A body that is valid where one is demanded. */
function bodyFor(method: string, path: string): CallOptions {
  if (method === "PUT" && path.endsWith("/files")) return { body: "x" };
  if (method !== "POST" && method !== "PUT") return {};
  if (path.includes("/exec")) return json({ cmd: "x" });
  if (path.endsWith("/mkdir")) return json({ path: "/x" });
  return json({});
}

Deno.test("unknown paths are 404 with and without a key", async () => {
  await using api = await TestApi.start();
  await expectRefused(api, [
    ["GET", "/nothing", {}, 404, "not_found"],
    ["GET", "/v1/nothing", {}, 404, "not_found"],
    ["GET", "/v1/sandboxes/", {}, 404, "not_found"],
    ["GET", `/v1/sandboxes/${UNKNOWN}/`, {}, 404, "not_found"],
    ["GET", "//v1/sandboxes", {}, 404, "not_found"],
    ["POST", "/torpor.v1.SandboxService/Nothing", json({}), 404, "not_found"],
    ["GET", "/v1/nothing", { key: "" }, 401, "unauthenticated"],
    ["GET", "/nothing", { key: "" }, 404, "not_found"],
    ["GET", `/${"x".repeat(5000)}`, {}, 404, "not_found"],
  ]);
});

Deno.test("ConnectRPC: bad input is invalid_argument with the field, and no key gets nowhere", async () => {
  await using api = await TestApi.start();
  const call = (method: string, message: unknown, key?: string) =>
    api.call("POST", `/torpor.v1.SandboxService/${method}`, { json: message, key });
  const detail = (answer: Json) => answer.details?.[0]?.debug?.field;
  for (
    const [method, message, field] of [
      ["CreateSandbox", { memoryMb: 1 }, "memory_mb"],
      ["CreateSandbox", { env: { "A B": "" } }, "env.A B"],
      ["CreateSandbox", { metadata: { a: "\0" } }, "metadata.a"],
      ["CreateSandbox", { idempotencyKey: "x".repeat(300) }, "idempotency_key"],
      ["GetSandbox", { sandboxId: "../etc" }, "sandbox_id"],
      ["GetSandbox", {}, "sandbox_id"],
      ["ListSandboxes", { states: [99] }, "state.0"],
      ["ListSandboxes", { pageSize: -1 }, "limit"],
      ["ListSandboxes", { cursor: "?" }, "cursor"],
      ["Exec", { sandboxId: UNKNOWN }, "cmd"],
      ["Exec", { sandboxId: UNKNOWN, cmd: "x", timeoutSec: -5 }, "timeout_sec"],
      ["SendProcessInput", { sandboxId: UNKNOWN, pid: 0 }, "pid"],
      ["SignalProcess", { sandboxId: UNKNOWN, pid: 1, signal: 99 }, "signal"],
      ["ReadFile", { sandboxId: UNKNOWN }, "path"],
      ["WriteFile", { sandboxId: UNKNOWN, path: "/x", mode: 99999 }, "mode"],
      ["ListDirectory", { sandboxId: UNKNOWN, path: "/", depth: 99 }, "depth"],
    ] as const
  ) {
    const answer = await call(method, message);
    assertEquals([answer.status, answer.json.code, detail(answer.json)], [400, "invalid_argument", field], method);
  }
  for (const message of ["{", "[]", '{"memoryMb":"x"}', '{"memoryMb":99999999999}', DEEP]) {
    const answer = await api.call("POST", "/torpor.v1.SandboxService/CreateSandbox", raw(message));
    assertEquals([answer.status, answer.json.code], [400, "invalid_argument"], message.slice(0, 40));
  }
  const unknown = await call("GetSandbox", { sandboxId: UNKNOWN });
  assertEquals([unknown.status, unknown.json.code], [404, "not_found"]);
  const stranger = await call("GetSandbox", { sandboxId: UNKNOWN }, "");
  assertEquals([stranger.status, stranger.json.code], [401, "unauthenticated"]);
});

Deno.test("a body that announces too much is refused before it is sent, on both surfaces", async () => {
  await using api = await TestApi.start();
  for (const path of ["/torpor.v1.SandboxService/Exec", "/v1/sandboxes"]) {
    assertEquals(await announce(api, path, 30 * 2 ** 20, api.key), path.startsWith("/v1") ? 413 : 429, path);
    assertEquals(await announce(api, path, 30 * 2 ** 20, "e2b_"), 401, path);
  }
});

/** Sends the head of a request and not its body; returns the status of the answer. */
async function announce(api: TestApi, path: string, length: number, key: string): Promise<number> {
  if (api.address.transport !== "tcp") throw new Error("the api of a test listens on TCP");
  using connection = await Deno.connect({ hostname: api.address.hostname, port: api.address.port });
  const head = `POST ${path} HTTP/1.1\r\nhost: test\r\nx-api-key: ${key}\r\ncontent-type: application/json\r\n` +
    `content-length: ${length}\r\n\r\n`;
  await connection.write(new TextEncoder().encode(head));
  const buffer = new Uint8Array(1000);
  const size = await connection.read(buffer);
  return Number(new TextDecoder().decode(buffer.subarray(0, size ?? 0)).split(" ")[1]);
}
