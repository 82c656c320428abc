import { assert, assertEquals, assertMatch } from "@std/assert";
import { ApiKeyService, AuditService, TeamService } from "@torpor/proto/team";
import { SandboxService } from "@torpor/proto/torpor";
import { asTorporError } from "@torpor/errors";
import { formatAddress } from "@torpor/rpc";
import { startApi } from "../../../services/api/start.ts";
import { type Json, TestApi } from "./harness.ts";

/** A team with limits, and a key of it. */
async function teamWith(api: TestApi, name: string, limits: Json = {}): Promise<{ id: string; key: string }> {
  const made = await api.call("POST", "/v1/teams", { json: { name, limits }, key: api.token });
  assertEquals(made.status, 201, made.text);
  const { key } = await makeKey(api, { team_id: made.json.team_id }, api.token);
  return { id: made.json.team_id, key };
}

async function makeKey(api: TestApi, json: Json, key = api.key): Promise<{ key: string; key_id: string }> {
  const made = await api.call("POST", "/v1/api-keys", { json: { name: "test", ...json }, key });
  assertEquals(made.status, 201, made.text);
  return made.json;
}

/** Entries are written after the answers. */
async function auditOf(api: TestApi, query: string, count: number, key = api.key): Promise<Json[]> {
  for (;;) {
    const { entries } = (await api.call("GET", `/v1/audit${query}`, { key })).json;
    if (entries.length >= count) return entries;
  }
}

Deno.test("teams: an administrator makes, changes and deletes them; a team sees itself and nobody else", async () => {
  await using api = await TestApi.start();
  const { id, key } = await teamWith(api, "research", { max_sandboxes: 2 });
  const shown = (await api.call("GET", `/v1/teams/${id}`, { key })).json;
  assertEquals([shown.name, shown.limits.max_sandboxes, shown.limits.max_vcpus], ["research", 2, null]);
  assertEquals((await api.call("GET", "/v1/teams", { key })).json.teams.map((one: Json) => one.team_id), [id]);
  assertEquals((await api.call("GET", "/v1/teams/default", { key })).json.code, "team_not_found");
  assertEquals((await api.call("GET", "/v1/teams", { key: api.token })).json.teams.length, 2);
  const denied = await api.call("PATCH", `/v1/teams/${id}`, { json: { limits: { max_sandboxes: null } }, key });
  assertEquals([denied.status, denied.json.code], [403, "permission_denied"]);
  const taken = await api.call("POST", "/v1/teams", { json: { name: "research" }, key: api.token });
  assertEquals([taken.status, taken.json.code], [409, "already_exists"]);

  const sandbox = await api.call("POST", "/v1/sandboxes", { json: { memory_mb: 128, vcpus: 2 }, key });
  const update = { name: "science", limits: { max_sandboxes: null, max_vcpus: 3 } };
  const changed = (await api.call("PATCH", `/v1/teams/${id}`, { json: update, key: api.token })).json;
  assertEquals([changed.name, changed.limits.max_sandboxes, changed.limits.max_vcpus], ["science", null, 3]);
  assertEquals([changed.use.sandboxes, changed.use.vcpus, changed.use.memory_mb], [1, 2, 128]);
  const full = await api.call("DELETE", `/v1/teams/${id}`, { key: api.token });
  assertEquals([full.status, full.json.code, full.json.details], [409, "conflict", { sandboxes: 1, snapshots: 0 }]);
  await api.call("DELETE", `/v1/sandboxes/${sandbox.json.sandbox_id}`, { key });
  assertEquals((await api.call("DELETE", `/v1/teams/${id}`, { key: api.token })).status, 204);
  assertEquals((await api.call("GET", "/v1/sandboxes", { key })).json.message, "this API key was revoked");
  assertEquals((await api.call("GET", `/v1/teams/${id}`, { key: api.token })).json.code, "team_not_found");
  const last = await api.call("DELETE", "/v1/teams/default", { key: api.token });
  assertEquals([last.status, last.json.code], [409, "conflict"]);
});

Deno.test("keys: shown once, as much as their scopes, not more than their maker's, ended at once or in time", async () => {
  await using api = await TestApi.start();
  const reader = await makeKey(api, { scopes: ["sandbox:read"], expires_in_sec: 3600 });
  assertMatch(reader.key, /^e2b_[0-9a-f]{40}$/);
  const call = (method: string, path: string, json?: Json) => api.call(method, path, { json, key: reader.key });
  assertEquals((await call("GET", "/v1/sandboxes")).status, 200);
  const write = await call("POST", "/v1/sandboxes", {});
  assertEquals([write.status, write.json.code], [403, "permission_denied"]);
  assert(write.json.message.includes("sandbox:write"), write.text);

  const list = await api.call("GET", "/v1/api-keys");
  assert(!list.text.includes(reader.key.slice(12)), "a list has no secrets");
  const entry = list.json.api_keys.find((one: Json) => one.key_id === reader.key_id);
  assertEquals([entry.scopes, entry.prefix, entry.revoked_at], [["sandbox:read"], reader.key.slice(0, 12), null]);
  assert(Math.abs(Date.parse(entry.expires_at) - Date.now() - 3_600_000) < 60_000);

  const keeper = await makeKey(api, { scopes: ["keys:admin", "sandbox:read"] });
  for (const scopes of [["*"], ["sandbox:write"], ["sandbox:read", "team:read"]]) {
    const refused = await api.call("POST", "/v1/api-keys", { json: { name: "x", scopes }, key: keeper.key });
    assertEquals([refused.status, refused.json.code, refused.json.field], [403, "permission_denied", "scopes"]);
  }
  const heir = await api.call("POST", "/v1/api-keys", { json: { name: "x" }, key: keeper.key });
  assertEquals(heir.json.scopes, ["keys:admin", "sandbox:read"], "as its maker's");
  const odd = await api.call("POST", "/v1/api-keys", { json: { name: "x", scopes: ["admin"] } });
  assertEquals([odd.status, odd.json.field], [422, "scopes.0"]);

  assertEquals((await api.call("DELETE", `/v1/api-keys/${reader.key_id}`)).status, 204);
  const revoked = await call("GET", "/v1/sandboxes");
  assertEquals([revoked.status, revoked.json.message], [401, "this API key was revoked"], "with the next request");
  assertEquals((await api.call("DELETE", `/v1/api-keys/${reader.key_id}`)).status, 204, "repeats are fine");
  const other = await teamWith(api, "other");
  const foreign = await api.call("DELETE", `/v1/api-keys/${keeper.key_id}`, { key: other.key });
  assertEquals([foreign.status, foreign.json.code], [404, "api_key_not_found"]);
});

Deno.test("100 creates at once on a limit of 10 make 10, and the others learn the limit and what is in use", async () => {
  await using api = await TestApi.start();
  const { id, key } = await teamWith(api, "t", { max_running_sandboxes: 10 });
  const create = () => api.call("POST", "/v1/sandboxes", { json: { memory_mb: 128 }, key });
  const answers = await Promise.all(Array.from({ length: 100 }, create));
  const made = answers.filter(({ status }) => status === 201);
  const refused = answers.filter(({ status }) => status === 429);
  assertEquals([made.length, refused.length], [10, 90]);
  const { json, headers } = refused.at(-1)!;
  assertEquals([json.code, json.field], ["quota_exceeded", "max_running_sandboxes"]);
  assertEquals([json.details.limit, json.details.asked], [10, 1]);
  assert(Number(headers.get("retry-after")) > 0);
  assertEquals(api.host.sandboxes.size, 10);

  const [first] = made.map((answer) => answer.json.sandbox_id);
  assertEquals((await api.call("POST", `/v1/sandboxes/${first}/pause`, { key })).status, 200);
  const fork = await api.call("POST", `/v1/sandboxes/${made[1]!.json.sandbox_id}/fork`, { json: { count: 2 }, key });
  assertEquals([fork.status, fork.json.details], [429, { limit: 10, used: 9, asked: 2 }]);
  assertEquals(api.host.kept.size, 0, "nothing was stopped for it");
  assertEquals((await create()).status, 201);
  const resume = await api.call("POST", `/v1/sandboxes/${first}/resume`, { key });
  assertEquals([resume.status, resume.json.code], [429, "quota_exceeded"]);
  using client = api.client(SandboxService, key);
  const error = asTorporError(await client.resumeSandbox({ sandboxId: first }).catch((thrown) => thrown));
  assertEquals([error.code, error.details, error.field], [
    "quota_exceeded",
    { limit: 10, used: 10, asked: 1 },
    "max_running_sandboxes",
  ]);
  assert(error.retryAfterSec! > 0);
  assertEquals((await api.call("GET", `/v1/sandboxes/${first}`, { key })).json.state, "paused");
  const { use } = (await api.call("GET", `/v1/teams/${id}`, { key })).json;
  assertEquals([use.sandboxes, use.running_sandboxes], [11, 10]);
});

Deno.test("a team that calls too often waits, and others do not", async () => {
  await using api = await TestApi.start();
  const { key } = await teamWith(api, "t", { requests_per_s: 2 });
  const answers = await Promise.all(
    Array.from({ length: 40 }, () => api.call("GET", "/v1/sandboxes", { key })),
  );
  const refused = answers.filter(({ status }) => status === 429);
  assert(refused.length >= 20, String(refused.length));
  assertEquals([refused[0]!.json.code, refused[0]!.json.details], ["rate_limited", { limit: 2 }]);
  assertEquals(refused[0]!.headers.get("retry-after"), "1");
  assertEquals((await api.call("GET", "/v1/sandboxes")).status, 200);
});

Deno.test("the audit log has who did what to what with which result, and none of what it carried", async () => {
  await using api = await TestApi.start();
  const secret = "a-very-secret-word";
  const created = await api.call("POST", "/v1/sandboxes", { json: { memory_mb: 128, env: { TOKEN: secret } } });
  const target = created.json.sandbox_id;
  await api.call("POST", `/v1/sandboxes/${target}/exec`, { json: { cmd: "bytes", args: [secret] } });
  await api.call("GET", `/v1/sandboxes/${target}`);
  await api.call("PUT", `/v1/sandboxes/${target}/files?path=/${secret}`, { body: secret });
  await api.call("POST", `/v1/sandboxes/${"z".repeat(20)}/pause`);
  await api.call("POST", "/v1/snapshots/collect", { json: {} });
  await api.call("DELETE", "/v1/snapshots/%00");
  using client = api.client(SandboxService);
  await client.pauseSandbox({ sandboxId: target });
  await client.getSandbox({ sandboxId: target });
  const entries = await auditOf(api, "", 7);
  assertEquals(entries.map(({ action, target, code }) => [action, target, code]).reverse(), [
    ["sandbox.create", target, "ok"],
    ["process.exec", target, "ok"],
    ["file.write", target, entries.at(-3)!.code],
    ["sandbox.pause", "z".repeat(20), "sandbox_not_found"],
    ["snapshot.collect", null, "permission_denied"],
    ["snapshot.delete", "?", "invalid_argument"],
    ["sandbox.pause", target, "ok"],
  ]);
  assert(!JSON.stringify(entries).includes(secret));
  assertEquals(entries.at(-1)!.request_id, created.headers.get("x-request-id"));
  assertEquals([entries[0]!.address, entries.at(-1)!.address], ["127.0.0.1", "127.0.0.1"]);
  const keys = (await api.call("GET", "/v1/api-keys")).json.api_keys.map((one: Json) => one.key_id);
  assert(entries.every(({ key_id, team_id }) => keys.includes(key_id) && team_id === "default"));

  const other = await teamWith(api, "other");
  await api.call("POST", "/v1/sandboxes", { json: { memory_mb: 1 }, key: other.key });
  const [own] = await auditOf(api, "", 1, other.key);
  assertEquals([own.action, own.code, own.team_id], ["sandbox.create", "invalid_argument", other.id]);
  assertEquals((await auditOf(api, `?target=${target}`, 4)).length, 4);
  const admins = await auditOf(api, "", 10, api.token);
  assertEquals(new Set(admins.map(({ team_id }) => team_id)), new Set(["default", other.id]));
  const page = (await api.call("GET", "/v1/audit?limit=3")).json;
  const next = (await api.call("GET", `/v1/audit?cursor=${encodeURIComponent(page.next_cursor)}`)).json;
  assertEquals(new Set([...page.entries, ...next.entries].map(({ request_id }) => request_id)).size, 9);
  assertEquals(next.next_cursor, null);
});

Deno.test("what was not written when the service is told to stop is written then", async () => {
  await using api = await TestApi.start();
  {
    const { token, databaseUrl, schedulerUrl } = api;
    const listen = { transport: "tcp", hostname: "127.0.0.1", port: 0 } as const;
    const config = { listen, token, databaseUrl, schedulerUrl, reconcilerUrl: undefined, traceRetention: 1 };
    await using second = await startApi(config);
    const headers = { "x-api-key": api.key, "content-type": "application/json" };
    for (let n = 0; n < 5; n++) {
      const url = `${formatAddress(second.address)}/v1/sandboxes`;
      const answer = await fetch(url, { method: "POST", headers, body: '{"memory_mb":1}' });
      assertEquals((await answer.json()).code, "invalid_argument");
    }
  }
  const [row] = await api.database.sql<{ count: number }[]>`select count(*)::int as count from audit_log`;
  assertEquals(row!.count, 5);
});

Deno.test("usage is of the team that asks, for the days that it asks for", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox({ memory_mb: 128, vcpus: 2 });
  await api.database.sql`update sandboxes set state_changed_at = '2026-03-01T00:00:00Z' where id = ${id}`;
  await api.call("POST", `/v1/sandboxes/${id}/pause`);
  await api.database.sql`update sandboxes set unique_bytes = 1000, shared_bytes = 24 where team_id = 'default'`;
  const { json } = await api.call("GET", "/v1/usage?from=2026-03-01&to=2026-03-02");
  assertEquals(json.stored.snapshots, { unique_bytes: 0, shared_bytes: 0 });
  const sandboxes = (await api.call("GET", "/v1/sandboxes")).json.sandboxes.length;
  assertEquals(json.stored.sandboxes, { unique_bytes: 1000 * sandboxes, shared_bytes: 24 * sandboxes });
  assertEquals([json.team_id, json.from, json.to, json.days.length], ["default", "2026-03-01", "2026-03-02", 2]);
  assertEquals([json.days[0].vcpu_seconds, json.total.vcpu_seconds], [172_800, 345_600]);
  assertEquals(json.total.memory_mb_seconds, 345_600 * 64);
  const { key } = await teamWith(api, "other");
  assertEquals((await api.call("GET", "/v1/usage?from=2026-03-01&to=2026-03-02", { key })).json.days, []);
  for (const query of ["?from=2026-03-02&to=2026-03-01", "?from=1990-01-01", "?from=x", "?days=3"]) {
    const refused = await api.call("GET", `/v1/usage${query}`);
    assertEquals([refused.status, refused.json.code], [422, "invalid_argument"], query);
  }
});

Deno.test("the same over ConnectRPC", async () => {
  await using api = await TestApi.start();
  using teams = api.client(TeamService, api.token);
  using keys = api.client(ApiKeyService, api.token);
  const { team } = await teams.createTeam({ name: "research", limits: { maxSandboxes: 0n, requestsPerS: 100n } });
  const { teamId } = team!;
  assertEquals([team!.limits!.maxSandboxes, team!.limits!.maxVcpus, team!.use!.sandboxes], [0n, undefined, 0n]);
  const { key, apiKey } = await keys.createApiKey({ name: "x", teamId, scopes: ["sandbox:write", "team:read"] });
  using sandboxes = api.client(SandboxService, key);
  const code = async (call: Promise<unknown>) => asTorporError(await call.catch((thrown) => thrown)).code;
  assertEquals(await code(sandboxes.createSandbox({})), "quota_exceeded");
  assertEquals(await code(sandboxes.listSandboxes({})), "permission_denied");
  await teams.updateTeam({ teamId, limits: { maxSandboxes: -1n, requestsPerS: -1n } });
  assertEquals((await teams.getTeam({ teamId })).team!.limits!.maxSandboxes, undefined);
  const { sandbox } = await sandboxes.createSandbox({ memoryMb: 128 });
  assertEquals(await code(teams.deleteTeam({ teamId })), "conflict");
  await sandboxes.deleteSandbox({ sandboxId: sandbox!.sandboxId });
  assertEquals((await keys.listApiKeys({ teamId })).apiKeys.map(({ keyId }) => keyId), [apiKey!.keyId]);
  using own = api.client(TeamService, key);
  assertEquals((await own.listTeams({})).teams.map((one) => one.teamId), [teamId]);
  assertEquals((await own.getUsage({ from: "2026-01-01", to: "2026-01-02" })).days, []);
  using audit = api.client(AuditService, key);
  let entries = (await audit.listAuditEntries({})).entries;
  while (entries.length < 3) entries = (await audit.listAuditEntries({})).entries;
  assertEquals(new Set(entries.map(({ action }) => action)), new Set(["sandbox.create", "sandbox.delete"]));
  await keys.revokeApiKey({ keyId: apiKey!.keyId, teamId });
  assertEquals(await code(own.listTeams({})), "unauthenticated");
  await teams.deleteTeam({ teamId });
  assertEquals(await code(teams.getTeam({ teamId })), "team_not_found");
});
