import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { insertApiKey, listApiKeys, revokeApiKey } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { SandboxService } from "@torpor/proto/torpor";
import { newApiKey } from "../../../services/api/keys/api_key.ts";
import { createApiKey, ensureApiKey } from "../../../services/api/keys/ensure_api_key.ts";
import { TestApi } from "./harness.ts";

Deno.test("a key opens both headers; revoked and expired ones open nothing and say why", async () => {
  await using api = await TestApi.start();
  const list = async (key: string, headers = {}) => await api.call("GET", "/v1/sandboxes", { key, headers });
  const { key, id } = await createApiKey(api.database, { name: "second" });
  assertEquals((await list(key)).status, 200);
  assertEquals((await list("", { "x-api-key": key })).status, 200);
  await revokeApiKey(api.database.sql, "default", id);
  const revoked = await list(key);
  assertEquals([revoked.status, revoked.json.message], [401, "this API key was revoked"]);
  const old = await createApiKey(api.database, { name: "old", expiresAt: new Date(Date.now() - 1000) });
  assertEquals((await list(old.key)).json.message, "this API key has expired");
  using client = api.client(SandboxService, old.key);
  const refused = await assertRejects(() => client.listSandboxes({}), TorporError);
  assertEquals(refused.code, "unauthenticated");
});

Deno.test("what is stored of a key does not lead back to it, and its use is noted", async () => {
  await using api = await TestApi.start();
  assertMatch(api.key, /^e2b_[0-9a-f]{40}$/);
  await api.call("GET", "/v1/sandboxes");
  // The note is written after the answer; disposing of the service waits for it.
  let row = (await listApiKeys(api.database.sql, "default"))[0]!;
  while (row.lastUsedAt === null) row = (await listApiKeys(api.database.sql, "default"))[0]!;
  assert(Date.now() - row.lastUsedAt.getTime() < 60_000);
  const stored = JSON.stringify(row, (_, value) => value instanceof Uint8Array ? value.toHex() : value);
  assert(!stored.includes(api.key.slice(12)), "the key is in the database");
  assertEquals(row.prefix, api.key.slice(0, 12));
});

Deno.test("another team's sandbox, operations and list are not there", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  const { operation_id } = (await api.call("GET", `/v1/sandboxes/${id}`)).json;
  await api.database.sql`insert into teams (id, name) values ('other', 'other')`;
  const other = await newApiKey();
  const { hash: keyHash, prefix } = other;
  await insertApiKey(api.database.sql, { teamId: "other", name: "other", keyHash, prefix });
  const { key } = other;
  for (
    const [method, path] of [
      ["GET", `/v1/sandboxes/${id}`],
      ["DELETE", `/v1/sandboxes/${id}`],
      ["POST", `/v1/sandboxes/${id}/pause`],
      ["POST", `/v1/sandboxes/${id}/resume`],
      ["POST", `/v1/sandboxes/${id}/ping`],
      ["GET", `/v1/sandboxes/${id}/files?path=/x`],
      ["PUT", `/v1/sandboxes/${id}/files?path=/x`],
      ["GET", `/v1/sandboxes/${id}/operations`],
      ["GET", `/v1/operations/${operation_id}`],
      ["GET", `/v1/traces?sandbox_id=${id}`],
    ] as const
  ) {
    assertEquals((await api.call(method, path, { key })).status, 404, `${method} ${path}`);
  }
  assertEquals((await api.call("GET", "/v1/sandboxes", { key })).json.sandboxes, []);
  assertEquals((await api.call("GET", "/v1/status", { key })).json.sandboxes, {});
  assertEquals((await api.call("GET", `/v1/sandboxes/${id}`)).json.state, "running");
});

Deno.test("ensure-api-key: one key in a private file, however often and however many at once", async () => {
  await using api = await TestApi.start();
  const directory = await Deno.makeTempDir();
  const file = `${directory}/api-key`;
  const made = await Promise.all(Array.from({ length: 5 }, () => ensureApiKey(api.database, file)));
  assertEquals(new Set(made.map(({ id }) => id)).size, 1);
  assertEquals((await Deno.stat(file)).mode! & 0o777, 0o600);
  assertEquals([...Deno.readDirSync(directory)].map((entry) => entry.name), ["api-key"]);
  const key = (await Deno.readTextFile(file)).trim();
  assertEquals((await api.call("GET", "/v1/sandboxes", { key })).status, 200);

  // A new database learns the key that clients already have.
  await api.database.sql`delete from api_keys where key_hash = ${new Uint8Array(
    await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key)),
  )}`;
  assertEquals((await ensureApiKey(api.database, file)).created, true);
  assertEquals((await api.call("GET", "/v1/sandboxes", { key })).status, 200);

  await revokeApiKey(api.database.sql, "default", (await ensureApiKey(api.database, file)).id);
  assertEquals((await assertRejects(() => ensureApiKey(api.database, file), TorporError)).code, "config_invalid");
  await Deno.writeTextFile(file, "something else");
  assertEquals((await assertRejects(() => ensureApiKey(api.database, file), TorporError)).code, "config_invalid");
  await Deno.remove(directory, { recursive: true });
});
