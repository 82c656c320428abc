import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { SandboxService } from "@torpor/proto/torpor";
import { ApiKeyService } from "@torpor/proto/team";
import { type Json, TestApi } from "./harness.ts";

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

Deno.test("the same over ConnectRPC: a command runs once, a failure is the answer, too; lifecycle verbs take the header", async () => {
  await using api = await TestApi.start();
  using client = api.client(SandboxService);
  const replayed: (string | null)[] = [];
  const options = (key: string) => ({
    headers: { "idempotency-key": key },
    onHeader: (headers: Headers) => void replayed.push(headers.get("idempotent-replayed")),
  });
  const made = [1, 2].map(() => client.createSandbox({ memoryMb: 128 }, options("create")));
  const [first, second] = await Promise.all(made);
  const sandboxId = first!.sandbox!.sandboxId;
  assertEquals(second!.sandbox!.sandboxId, sandboxId);
  replayed.length = 0;
  const calls = () => api.host.calls.filter(({ method }) => method === "exec").length;
  const exec = (key: string, cmd: string) => client.exec({ sandboxId, cmd }, options(key));
  const answer = await exec("one", "echo hello");
  assertEquals([await exec("one", "echo hello"), calls()], [answer, 1]);
  assertEquals(replayed, [null, "true"]);
  const codeOf = async (work: () => Promise<unknown>) => (await assertRejects(work, TorporError)).code;
  assertEquals([await codeOf(() => exec("one", "echo other")), calls()], ["idempotency_mismatch", 1]);
  await exec("two", "echo hello");
  assertEquals(calls(), 2);
  const bad = () => client.makeDirectory({ sandboxId, path: "" }, options("bad"));
  const [refused, again] = [await assertRejects(bad, TorporError), await assertRejects(bad, TorporError)];
  assertEquals([refused.code, refused.field], ["invalid_argument", "path"]);
  assertEquals([again.code, again.field, again.message], [refused.code, refused.field, refused.message]);
  await api.database
    .sql`update idempotency_keys set answer_status = null, answer_type = null, answer_body = null where key = 'two'`;
  assertEquals(await codeOf(() => exec("two", "echo hello")), "conflict");
  assertEquals(await codeOf(() => exec("", "echo hello")), "invalid_argument");
  // Another team's key of the same name is another one; a secret is not kept.
  using keys = api.client(ApiKeyService);
  await Promise.all([1, 2].map((n) => keys.createApiKey({ name: `n${n}` }, options("secret"))));
  const [{ count }] = await api.database.sql`select count(*)::int from idempotency_keys where key = 'secret'` as [Json];
  assertEquals(count, 0);
});
