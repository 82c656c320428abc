import { assertEquals } from "@std/assert";
import { TestApi } from "./harness.ts";

Deno.test("a command with an Idempotency-Key runs once, and repeats get its answer", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  const exec = (key: string, cmd: string) =>
    api.call("POST", `/v1/sandboxes/${id}/exec`, { json: { cmd }, headers: { "idempotency-key": key } });
  const calls = () => api.host.calls.filter(({ method }) => method === "exec").length;
  const first = await exec("one", "echo hello");
  const repeat = await exec("one", "echo hello");
  assertEquals([repeat.status, repeat.json, calls()], [first.status, first.json, 1]);
  assertEquals([first.headers.get("idempotent-replayed"), repeat.headers.get("idempotent-replayed")], [null, "true"]);
  const other = await exec("one", "echo other");
  assertEquals([other.status, other.json.code, calls()], [422, "idempotency_mismatch", 1]);
  await exec("two", "echo hello");
  assertEquals(calls(), 2);
});

Deno.test("a failure is the answer, too; a key whose first request has none yet is a conflict", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  const make = (key: string, path: string) =>
    api.call("POST", `/v1/sandboxes/${id}/files/mkdir`, { json: { path }, headers: { "idempotency-key": key } });
  const bad = await make("bad", "");
  assertEquals([bad.status, (await make("bad", "")).text], [422, bad.text]);
  await make("dead", "/tmp/a");
  // As when the service has died before it had the answer.
  await api.database.sql`
    update idempotency_keys set answer_status = null, answer_type = null, answer_body = null where key = 'dead'`;
  const repeat = await make("dead", "/tmp/a");
  assertEquals([repeat.status, repeat.json.code, repeat.headers.get("retry-after")], [409, "conflict", "1"]);
});

Deno.test("an empty or overlong key is refused", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  for (const key of ["", "x".repeat(201)]) {
    const answer = await api.call("POST", `/v1/sandboxes/${id}/ping`, { headers: { "idempotency-key": key } });
    assertEquals([answer.status, answer.json.code], [422, "invalid_argument"]);
  }
});
