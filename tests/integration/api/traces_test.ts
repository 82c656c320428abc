import { assert, assertEquals } from "@std/assert";
import { parseAddress } from "@torpor/rpc";
import { SandboxService } from "@torpor/proto/torpor";
import { openClient } from "@torpor/rpc";
import { type Json, TestApi } from "./harness.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PATH = "/otlp/v1/traces";

/** An export of one span with some members replaced. */
function exported(span: Json = {}, resource: Json = { attributes: [text("service.name", "hostagent")] }): Json {
  return {
    resourceSpans: [{
      resource,
      scopeSpans: [{
        scope: { name: "torpor" },
        spans: [{
          traceId: TRACE,
          spanId: "b7ad6b7169203331",
          name: "pause.disk",
          kind: 1,
          startTimeUnixNano: "1700000000000000001",
          endTimeUnixNano: "1700000000002500001",
          attributes: [text("torpor.sandbox_id", "a".repeat(20)), { key: "bytes", value: { intValue: "4096" } }],
          status: { code: 2, message: "no" },
          ...span,
        }],
      }],
    }],
  };
}

function text(key: string, stringValue: string) {
  return { key, value: { stringValue } };
}

async function send(api: TestApi, json: unknown, headers: Record<string, string> = {}) {
  return await api.call("POST", PATH, { json, key: api.token, headers });
}

Deno.test("an export is stored and shown, and a repeat changes nothing", async () => {
  await using api = await TestApi.start();
  for (let round = 0; round < 2; round++) assertEquals((await send(api, exported())).status, 200);
  const pager = exported({
    spanId: "00000000000000aa",
    parentSpanId: "b7ad6b7169203331",
    name: "faults",
    attributes: [text("torpor.component", "pager"), { key: "lazy", value: { boolValue: true } }],
    startTimeUnixNano: "1700000000000000002",
    status: {},
    flags: 257,
  });
  await send(api, pager);
  const { spans } = (await api.call("GET", `/v1/traces/${TRACE}`)).json;
  assertEquals(spans, [{
    trace_id: TRACE,
    span_id: "b7ad6b7169203331",
    parent_span_id: null,
    name: "pause.disk",
    component: "hostagent",
    start_unix_ns: "1700000000000000001",
    end_unix_ns: "1700000000002500001",
    duration_ms: 2.5,
    attributes: { "torpor.sandbox_id": "a".repeat(20), bytes: "4096" },
    status: "error",
    status_message: "no",
  }, {
    trace_id: TRACE,
    span_id: "00000000000000aa",
    parent_span_id: "b7ad6b7169203331",
    name: "faults",
    component: "pager",
    start_unix_ns: "1700000000000000002",
    end_unix_ns: "1700000000002500001",
    duration_ms: 2.499999,
    attributes: { lazy: "true" },
    status: "unset",
    status_message: "",
  }]);
  const { traces } = (await api.call("GET", "/v1/traces")).json;
  assertEquals(traces.map((t: Json) => [t.trace_id, t.root_name, t.span_count]), [[TRACE, "pause.disk", 2]]);
});

Deno.test("the receiver refuses strangers and what is no export, and takes what the protocol allows", async () => {
  await using api = await TestApi.start();
  for (const key of ["", api.key, "wrong"]) {
    assertEquals((await api.call("POST", PATH, { json: exported(), key })).status, 401);
  }
  const protobuf = { body: new Uint8Array(10), key: api.token, headers: { "content-type": "application/x-protobuf" } };
  assertEquals((await api.call("POST", PATH, protobuf)).status, 415);
  for (
    const json of [
      [],
      null,
      { resourceSpans: {} },
      exported({ traceId: "short" }),
      exported({ spanId: "" }),
      exported({ startTimeUnixNano: "-1" }),
      exported({ endTimeUnixNano: "99999999999999999999" }),
      exported({ startTimeUnixNano: 1.5 }),
      exported({ attributes: [{ value: {} }] }),
      exported({ attributes: [{ key: "a", value: { stringValue: 7 } }] }),
      exported({ status: { code: 9 } }),
    ]
  ) {
    const answer = await send(api, json);
    assertEquals([answer.status, answer.json.code], [422, "invalid_argument"], JSON.stringify(json).slice(0, 300));
  }
  const broken = { body: "{", key: api.token, headers: { "content-type": "application/json" } };
  assertEquals((await api.call("POST", PATH, broken)).status, 422);
  const large = { ...broken, body: " ".repeat(16 * 2 ** 20 + 1) };
  assertEquals((await api.call("POST", PATH, large)).status, 413);

  for (
    const json of [
      {},
      exported({ name: "nul \0 and half \ud800" }),
      exported({ spanId: "00000000000000ab", status: { code: "STATUS_CODE_OK" }, parentSpanId: null, attributes: [] }),
      exported({ spanId: "00000000000000ac", unknownMember: 1, attributes: [{ key: "l", value: { arrayValue: {} } }] }),
      exported({ spanId: "00000000000000ad", attributes: [text("long", "x".repeat(100_000))] }, {}),
      exported({ spanId: "00000000000000ae", startTimeUnixNano: "1800000000000000000" }),
    ]
  ) {
    assertEquals((await send(api, json)).status, 200, JSON.stringify(json).slice(0, 300));
  }
  const { spans } = (await api.call("GET", `/v1/traces/${TRACE}`)).json;
  assertEquals(spans.length, 5);
  assertEquals(spans.find((s: Json) => s.span_id.endsWith("ae")).duration_ms, 0, "a clock that was set back");
});

Deno.test("spans of exports themselves are not stored", async () => {
  await using api = await TestApi.start();
  await send(api, exported({ name: "POST", attributes: [text("url.path", PATH)] }));
  await send(api, exported({ name: "POST", attributes: [text("url.full", `http://127.0.0.1:7070${PATH}`)] }));
  assertEquals((await api.call("GET", `/v1/traces/${TRACE}`)).status, 404);
});

Deno.test("only the newest traces are kept", async () => {
  await using api = await TestApi.start();
  for (let n = 0; n < 12; n++) {
    const batch = { resourceSpans: [] as Json[] };
    for (let m = 0; m < 10; m++) {
      const traceId = (n * 10 + m + 1).toString(16).padStart(32, "0");
      batch.resourceSpans.push(...exported({ traceId }).resourceSpans);
    }
    assertEquals((await send(api, batch)).status, 200);
  }
  assertEquals((await api.call("GET", "/v1/traces?limit=1000")).json.traces.length, 100);
  assertEquals((await api.call("GET", `/v1/traces/${"0".repeat(31)}1`)).status, 404);
  assertEquals((await api.call("GET", `/v1/traces/${(120).toString(16).padStart(32, "0")}`)).status, 200);
});

/** The api as its own process that exports its spans to itself, as `torpor up` starts it. */
class ApiProcess implements AsyncDisposable {
  private constructor(readonly url: string, private readonly process: Deno.ChildProcess) {}

  static async start(test: TestApi): Promise<ApiProcess> {
    const root = new URL("../../../", import.meta.url).pathname;
    // A free port: the exporter must know it before the service has chosen one.
    const probe = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const url = `http://127.0.0.1:${(probe.addr as Deno.NetAddr).port}`;
    probe.close();
    const unsampled = "00-11111111111111111111111111111111-2222222222222222-00";
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-check", "--config", `${root}deno.json`, "-A", `${root}services/api/main.ts`],
      env: {
        TORPOR_LISTEN: url,
        TORPOR_INTERNAL_TOKEN: test.token,
        DATABASE_URL: test.databaseUrl,
        TORPOR_SCHEDULER_URL: test.schedulerUrl,
        OTEL_DENO: "true",
        OTEL_SERVICE_NAME: "api",
        OTEL_EXPORTER_OTLP_ENDPOINT: `${url}/otlp`,
        OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
        OTEL_EXPORTER_OTLP_HEADERS: `traceparent=${unsampled},authorization=Bearer%20${encodeURIComponent(test.token)}`,
        OTEL_TRACES_SAMPLER: "parentbased_always_on",
        OTEL_BSP_SCHEDULE_DELAY: "100",
        OTEL_METRICS_EXPORTER: "none",
        OTEL_DENO_CONSOLE: "ignore",
      },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const lines = process.stderr.pipeThrough(new TextDecoderStream());
    const reader = lines.getReader();
    for (let log = ""; !log.includes('"listening"');) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`the api ended: ${log}`);
      log += value;
    }
    reader.releaseLock();
    const service = new ApiProcess(url, process);
    service.#drained = lines.pipeTo(new WritableStream());
    return service;
  }

  #drained: Promise<void> = Promise.resolve();

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill("SIGTERM");
    const { code } = await this.process.status;
    await this.#drained;
    assertEquals(code, 0);
  }
}

Deno.test("one trace leads from the client through the api to the host, on both surfaces and in streams", async () => {
  await using test = await TestApi.start();
  await using api = await ApiProcess.start(test);
  const traceparent = `00-${TRACE}-b7ad6b7169203331-01`;
  const headers = { "x-api-key": test.key, traceparent, "content-type": "application/json" };
  const post = async (path: string, body: unknown) => {
    const response = await fetch(`${api.url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    assertEquals(response.headers.get("x-trace-id"), TRACE, path);
    assert(response.headers.get("traceparent")!.startsWith(`00-${TRACE}-`));
    return response;
  };
  const sandboxId = (await (await post("/v1/sandboxes", { memory_mb: 128 })).json()).sandbox_id;
  await (await post(`/v1/sandboxes/${sandboxId}/exec`, { cmd: "cat" })).body!.cancel();
  await (await post(`/v1/sandboxes/${sandboxId}/exec/stream`, { cmd: "hello" })).text();
  const refused = await (await post(`/v1/sandboxes/${sandboxId}/exec`, {})).json();
  assertEquals(refused.trace_id, TRACE);
  const download = `${api.url}/v1/sandboxes/${sandboxId}/files?path=/dev/zero&user=u9`;
  await (await fetch(download, { headers })).arrayBuffer();
  using client = openClient(SandboxService, { address: parseAddress(api.url), token: test.key });
  test.host.traceparents.delete("execStream");
  for await (const _event of client.execStream({ sandboxId, cmd: "hello" }, { headers: { traceparent } }));
  for (const method of ["createSandbox", "exec", "execStream", "GET"]) {
    assertEquals(test.host.traceparents.get(method)?.split("-")[1], TRACE, method);
  }

  const names = new Set<string>();
  const wanted = [
    "POST /v1/sandboxes",
    "POST /v1/sandboxes/{sandbox_id}/exec/stream",
    "GET /v1/sandboxes/{sandbox_id}/files",
    "torpor.v1.SandboxService/ExecStream",
    "authenticate",
    "lifecycle.create",
    "db.find_api_key",
  ];
  while (!wanted.every((name) => names.has(name))) {
    const response = await fetch(`${api.url}/v1/traces/${TRACE}`, { headers: { "x-api-key": test.key } });
    for (const span of (await response.json()).spans ?? []) {
      assertEquals(span.component, "api");
      names.add(span.name);
    }
  }
});

Deno.test("storing spans makes no spans: after the last request the store comes to rest", async () => {
  await using test = await TestApi.start();
  await using api = await ApiProcess.start(test);
  const count = async () => {
    const [row] = await test.database.sql<{ count: bigint }[]>`select count(*) as count from trace_spans`;
    return Number(row!.count);
  };
  await (await fetch(`${api.url}/v1/sandboxes`, { headers: { "x-api-key": test.key } })).body!.cancel();
  while (await count() === 0);
  let settled = await count();
  // An endless loop adds spans with each export, every 100 ms.
  for (let quiet = 0; quiet < 10;) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const now = await count();
    assert(now < 100, `${now} spans of one request`);
    quiet = now === settled ? quiet + 1 : 0;
    settled = now;
  }
});
