import {
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescService,
  ScalarType,
  toJsonString,
} from "@bufbuild/protobuf";
import { createConnectRouter } from "@connectrpc/connect";
import { assert, assertEquals } from "@std/assert";
import { insertApiKey } from "@torpor/db";
import { asTorporError } from "@torpor/errors";
import { addConnectServices } from "../../../services/api/connect/services.ts";
import { ACCESS, accessOf, includesScope, type Scope, SCOPES } from "../../../services/api/keys/access.ts";
import { newApiKey } from "../../../services/api/keys/api_key.ts";
import { type CallOptions, type Json, TestApi } from "./harness.ts";

interface Route {
  method: string;
  /** As OpenAPI writes it. */
  template: string;
}

/** Every route under /v1 that the description has. */
async function everyRoute(api: TestApi): Promise<Route[]> {
  const { paths } = (await api.call("GET", "/openapi.json", { key: "" })).json;
  return Object.entries(paths as Record<string, object>).filter(([template]) => template.startsWith("/v1/"))
    .flatMap(([template, methods]) =>
      Object.keys(methods).map((method) => ({ method: method.toUpperCase(), template }))
    );
}

/** Every public RPC. */
function everyRpc(): { service: DescService; method: DescMethod }[] {
  const router = createConnectRouter();
  addConnectServices(router, {} as never, {} as never);
  return router.handlers.map(({ service, method }) => ({ service, method }));
}

function rpcName({ service, method }: { service: DescService; method: DescMethod }): string {
  return `${service.typeName.split(".").at(-1)}/${method.name}`;
}

async function keyOf(api: TestApi, teamId: string, scopes?: Scope[]): Promise<string> {
  const { key, hash: keyHash, prefix } = await newApiKey();
  await insertApiKey(api.database.sql, { teamId, name: "test", keyHash, prefix, scopes });
  return key;
}

Deno.test("each route and each RPC is in the table of scopes, and nothing else is", async () => {
  await using api = await TestApi.start();
  const calls = [
    ...(await everyRoute(api)).map(({ method, template }) => `${method} ${template}`),
    ...everyRpc().map(rpcName),
  ];
  assert(calls.length > 90, String(calls.length));
  assertEquals(calls.filter((call) => !ACCESS.has(call)), [], "add these to services/api/keys/access.ts");
  assertEquals([...ACCESS.keys()].filter((call) => !calls.includes(call)), []);
  for (const [call, { scope, changes }] of ACCESS) {
    if (/^(DELETE|PATCH|PUT) /.test(call)) assert(changes, call);
    if (call.startsWith("GET ")) assert(!changes, call);
    assert(scope === "admin" || SCOPES.includes(scope), call);
  }
});

Deno.test("a call that is in no table needs a key for everything", () => {
  assertEquals(accessOf("POST /v1/new"), { action: "POST /v1/new", scope: "*", changes: true });
  assert(!includesScope(["sandbox:write", "keys:admin"], "*"));
  assert(!includesScope(["*"], "admin"));
});

Deno.test("a key without the scope is refused on every route and RPC, before anything is looked at", async () => {
  await using api = await TestApi.start();
  const keys = new Map<string, string>();
  for (const scope of SCOPES) {
    // All scopes but this one.
    if (scope !== "*") {
      keys.set(
        scope,
        await keyOf(
          api,
          "default",
          SCOPES.filter((one) => one !== scope && one !== "*"),
        ),
      );
    }
  }
  keys.set("admin", api.key);
  const calls = api.host.calls.length;
  for (const { method, template } of await everyRoute(api)) {
    const { scope } = accessOf(`${method} ${template}`);
    const answer = await api.call(method, template.replace(/\{[a-z_]+\}/g, "%00"), {
      key: keys.get(scope)!,
      body: bodyOf(method),
    });
    assertEquals([answer.status, answer.json.code], [403, "permission_denied"], `${method} ${template}`);
    assert(scope === "admin" || answer.json.message.includes(scope), answer.text);
  }
  for (const rpc of everyRpc()) {
    const { scope } = accessOf(rpcName(rpc));
    const thrown = asTorporError(await failureOf(api, rpc, {}, keys.get(scope)!));
    assertEquals(thrown.code, "permission_denied", rpcName(rpc));
  }
  assertEquals(api.host.calls.length, calls, "nothing reached the host");
});

function bodyOf(method: string): string | undefined {
  return method === "GET" ? undefined : "{";
}

/** What one team has, by the names of path parameters and of the fields of messages. */
async function belongings(api: TestApi) {
  const sandbox_id = await api.createSandbox();
  await api.call("POST", "/v1/snapshots", { json: { sandbox_id, name: "mine" } });
  const snapshot = (await api.call("GET", "/v1/snapshots/mine")).json.snapshot_id as string;
  const { operation_id } = (await api.call("GET", `/v1/sandboxes/${sandbox_id}`)).json;
  const [key] = (await api.call("GET", "/v1/api-keys")).json.api_keys;
  const trace_id = "0af7651916cd43dd8448eb211c80319c";
  await api.database.sql`insert into traces (trace_id, start_ns, end_ns) values (${trace_id}, 1, 2)`;
  await api.database.sql`
    insert into trace_spans (trace_id, span_id, name, component, start_ns, end_ns, attributes)
    values (${trace_id}, 'a', 'x', 'api', 1, 2, ${api.database.sql.json({ "torpor.sandbox_id": sandbox_id })})`;
  const webhook = { url: "https://192.0.43.8/hook", events: ["sandbox.created"] };
  const { webhook_id } = (await api.call("POST", "/v1/webhooks", { json: webhook })).json;
  const event_id = `evt_${sandbox_id}_7`;
  return {
    sandbox_id,
    snapshot,
    operation_id,
    key_id: key.key_id,
    team_id: "default",
    trace_id,
    pid: "7",
    port: "8080",
    webhook_id,
    event_id,
  };
}

type Belongings = Awaited<ReturnType<typeof belongings>>;

/** What a route is called with, so that nothing but the owner can be the reason of a refusal. */
function inputOf({ method, template }: Route, own: Belongings): { query: string; options: CallOptions } {
  const { sandbox_id, snapshot } = own;
  const bodies: Record<string, unknown> = {
    "POST /v1/sandboxes": { snapshot },
    "POST /v1/snapshots": { sandbox_id, name: "theirs" },
    "PATCH /v1/snapshots/{snapshot}": { expires_in_sec: 60 },
    "POST /v1/sandboxes/{sandbox_id}/exec": { cmd: "x" },
    "POST /v1/sandboxes/{sandbox_id}/exec/stream": { cmd: "x" },
    "POST /v1/sandboxes/{sandbox_id}/files/mkdir": { path: "/x" },
    "POST /v1/webhooks": { url: "https://192.0.43.8/hook", events: ["sandbox.created"] },
    "POST /v1/api-keys": { name: "theirs", team_id: "default" },
  };
  const queries: Record<string, string> = {
    "/v1/api-keys": method === "GET" ? "?team_id=default" : "",
    "/v1/usage": "?team_id=default",
    "/v1/audit": "?team_id=default",
    "/v1/traces": `?sandbox_id=${sandbox_id}`,
  };
  const query = template.includes("/files") ? "?path=/x" : queries[template] ?? "";
  if (method === "PUT" && template.endsWith("/files")) return { query, options: { body: "x" } };
  return { query, options: method === "GET" ? {} : { json: bodies[`${method} ${template}`] ?? {} } };
}

/** Routes that are about no team's object: they answer, and show nothing of another team's. */
const ABOUT_NO_OBJECT = [
  "GET /v1/sandboxes",
  "GET /v1/snapshots",
  "GET /v1/status",
  "GET /v1/hosts",
  "GET /v1/teams",
  "GET /v1/webhooks",
  "POST /v1/webhooks",
];

Deno.test("what another team has is 404 on every route", async () => {
  await using api = await TestApi.start();
  const own = await belongings(api);
  await api.database.sql`insert into teams (id, name) values (${"o".repeat(20)}, 'other')`;
  const key = await keyOf(api, "o".repeat(20));
  const calls = api.host.calls.length;
  for (const route of await everyRoute(api)) {
    const name = `${route.method} ${route.template}`;
    // Hosts belong to the deployment; what changes it is for administrators.
    if (accessOf(name).scope === "admin" || route.template === "/v1/hosts/{host}") continue;
    const path = route.template.replace(
      /\{([a-z_]+)\}/g,
      (whole, parameter: keyof Belongings) => own[parameter] ?? whole,
    );
    assert(!path.includes("{"), `${name}: belongings() lacks what its path names`);
    const { query, options } = inputOf(route, own);
    const answer = await api.call(route.method, path + query, { ...options, key });
    if (ABOUT_NO_OBJECT.includes(name)) {
      assert(answer.status === 200 || answer.status === 201, `${name}: ${answer.text}`);
      for (const id of secretsOf(own)) assert(!answer.text.includes(id), `${name}: ${answer.text}`);
    } else {assertEquals(
        [answer.status, answer.json?.code?.endsWith("_not_found")],
        [404, true],
        `${name}: ${answer.text}`,
      );}
  }
  assertEquals(api.host.calls.length, calls, "nothing reached the host");
});

Deno.test("what another team has is not_found in every RPC", async () => {
  await using api = await TestApi.start();
  const own = await belongings(api);
  await api.database.sql`insert into teams (id, name) values (${"o".repeat(20)}, 'other')`;
  const key = await keyOf(api, "o".repeat(20));
  const calls = api.host.calls.length;
  for (const rpc of everyRpc()) {
    const name = rpcName(rpc);
    if (accessOf(name).scope === "admin") continue;
    const { message, named } = filled(rpc.method.input, own);
    const answer: Json = await failureOf(api, rpc, message, key);
    if (answer instanceof Error) {
      assert(asTorporError(answer).code.endsWith("_not_found"), `${name}: ${answer.message}`);
    } else {
      assert(!named, `${name} answered ${answer}`);
      for (const id of secretsOf(own)) assert(!answer.includes(id), `${name}: ${answer}`);
    }
  }
  assertEquals(api.host.calls.length, calls, "nothing reached the host");
});

function secretsOf({ sandbox_id, snapshot, operation_id, key_id, trace_id, webhook_id }: Belongings): string[] {
  return [sandbox_id, snapshot, operation_id, key_id, trace_id, webhook_id];
}

/** A message whose fields name another team's things. @returns named: it names any. */
function filled(type: DescMessage, own: Belongings): { message: Json; named: boolean } {
  const plain: Record<string, Json> = {
    cmd: "x",
    url: "https://192.0.43.8/hook",
    path: "/x",
    name: "theirs",
    pid: 7,
    signal: 15,
    count: 1,
    expiresInSec: 60,
  };
  const message: Json = {};
  let named = false;
  for (const field of type.fields) {
    const id = own[field.name as keyof Belongings];
    if (isText(field) && id !== undefined) {
      message[field.localName] = id;
      named = true;
    } else if (field.oneof && field.message && message[field.oneof.localName] === undefined) {
      const inner = filled(field.message, own);
      message[field.oneof.localName] = { case: field.localName, value: inner.message };
      named ||= inner.named;
    } else if (plain[field.localName] !== undefined && field.fieldKind === "scalar") {
      const value = plain[field.localName];
      message[field.localName] = field.scalar === ScalarType.INT64 ? BigInt(value) : value;
    }
  }
  return { message, named };
}

function isText(field: DescField): boolean {
  return field.fieldKind === "scalar" && field.scalar === ScalarType.STRING;
}

/** What a call throws, or its answer as JSON. */
async function failureOf(
  api: TestApi,
  { service, method }: { service: DescService; method: DescMethod },
  message: Json,
  key: string,
): Promise<unknown> {
  using client: Json = api.client(service, key);
  const call = client[method.localName].bind(client);
  try {
    if (method.methodKind === "server_streaming") return JSON.stringify(await Array.fromAsync(call(message)));
    const streams = method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
    return toJsonString(method.output, await call(streams ? once(message) : message));
  } catch (thrown) {
    return thrown;
  }
}

async function* once(message: Json): AsyncIterable<Json> {
  yield await Promise.resolve(message);
}
