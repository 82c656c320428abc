import { assert, assertEquals } from "@std/assert";
import { type Json, TestApi } from "./harness.ts";

const PATH = "/otlp/v1/metrics";

function text(key: string, stringValue: string) {
  return { key, value: { stringValue } };
}

/** An export of some metrics by one process. */
function exported(metrics: Json[], instance = "a", service = "hostagent"): Json {
  const attributes = [text("service.name", service), text("service.instance.id", instance)];
  return { resourceMetrics: [{ resource: { attributes }, scopeMetrics: [{ scope: { name: "torpor" }, metrics }] }] };
}

function repairs(value: number): Json {
  return {
    name: "torpor.reconciler.repairs",
    unit: "{repair}",
    description: "Repairs",
    sum: {
      dataPoints: [{ attributes: [text("torpor.repair", "vm_gone")], asDouble: value, timeUnixNano: "1" }],
      aggregationTemporality: 2,
      isMonotonic: true,
    },
  };
}

const RESUMES = {
  name: "torpor.sandbox.resume.duration",
  unit: "s",
  histogram: {
    dataPoints: [{
      attributes: [text("torpor.tier", 'wa"rm\n')],
      count: "6",
      sum: 3.5,
      bucketCounts: ["1", 2, "3"],
      explicitBounds: [0.1, 1],
      exemplars: [],
    }],
    aggregationTemporality: "AGGREGATION_TEMPORALITY_CUMULATIVE",
  },
};

async function send(api: TestApi, json: unknown) {
  return await api.call("POST", PATH, { json, key: api.token });
}

async function scrape(api: TestApi): Promise<string> {
  const answer = await api.call("GET", "/metrics", { key: api.token });
  assertEquals([answer.status, answer.headers.get("content-type")], [200, "text/plain; version=0.0.4; charset=utf-8"]);
  return answer.text;
}

Deno.test("Prometheus gets the newest values of each process, with units in the names", async () => {
  await using api = await TestApi.start();
  const bytes = { name: "torpor.hosts", unit: "By", gauge: { dataPoints: [{ asInt: "7", attributes: [] }] } };
  for (const value of [1, 3]) assertEquals((await send(api, exported([repairs(value), RESUMES, bytes]))).status, 200);
  assertEquals((await send(api, exported([repairs(10)], "b", "reconciler"))).status, 200);
  const lines = (await scrape(api)).split("\n").filter((line) => line !== "");
  assertEquals(lines, [
    "# HELP torpor_reconciler_repairs_total Repairs",
    "# TYPE torpor_reconciler_repairs_total counter",
    ...[["a", "hostagent", 3], ["b", "reconciler", 10]].map(([instance, job, value]) =>
      `torpor_reconciler_repairs_total{torpor_repair="vm_gone",job="${job}",instance="${instance}",otel_scope_name="torpor"} ${value}`
    ),
    "# HELP torpor_sandbox_resume_duration_seconds description missing",
    "# TYPE torpor_sandbox_resume_duration_seconds histogram",
    ...[
      ["_count", "6", ""],
      ["_sum", "3.5", ""],
      ...[["0.1", 1], ["1", 3], ["+Inf", 6]].map(([le, value]) => [
        "_bucket",
        value,
        `,le="${le}"`,
      ]),
    ].map(([suffix, value, le]) =>
      `torpor_sandbox_resume_duration_seconds${suffix}{torpor_tier="wa\\"rm\\n",job="hostagent",instance="a",otel_scope_name="torpor"${le}} ${value}`
    ),
    "# HELP torpor_hosts_bytes description missing",
    "# TYPE torpor_hosts_bytes gauge",
    'torpor_hosts_bytes{job="hostagent",instance="a",otel_scope_name="torpor"} 7',
  ]);
});

Deno.test("metrics are for who knows the internal token, in JSON, and cumulative", async () => {
  await using api = await TestApi.start();
  const refused = async (status: number, code: string, method: string, path: string, options: Json) => {
    const answer = await api.call(method, path, options);
    assertEquals([answer.status, answer.json.code], [status, code]);
  };
  for (const key of ["", api.key, "wrong"]) {
    await refused(401, "unauthenticated", "POST", PATH, { json: exported([repairs(1)]), key });
    await refused(401, "unauthenticated", "GET", "/metrics", { key });
  }
  const protobuf = { body: "x", headers: { "content-type": "application/x-protobuf" }, key: api.token };
  await refused(415, "unsupported_media_type", "POST", PATH, protobuf);
  const delta = repairs(1);
  delta.sum.aggregationTemporality = 1;
  const broken = structuredClone(RESUMES) as Json;
  broken.histogram.dataPoints[0].explicitBounds = [1];
  const bad: Json[] = [
    exported([delta]),
    exported([broken]),
    exported([{ name: "" }]),
    exported([{ name: "x", gauge: { dataPoints: Array.from({ length: 10_001 }, () => ({})) } }]),
    { resourceMetrics: 1 },
    [],
  ];
  for (const json of bad) await refused(422, "invalid_argument", "POST", PATH, { json, key: api.token });
  assertEquals((await send(api, {})).status, 200);
  assertEquals(await scrape(api), "# no registered metrics");
});

Deno.test("what a process sends cannot break the format", async () => {
  await using api = await TestApi.start();
  const name = 'x" 1\ny\u0000{} ';
  const gauge = (value: Json) => ({ dataPoints: [{ attributes: [text("a\nb", "\u0000}\n# ")], ...value }] });
  const metrics = [{ name, description: "a\nb", gauge: gauge({ asDouble: "NaN" }) }, { name: "9", gauge: gauge({}) }];
  assertEquals((await send(api, exported(metrics, 'in"st\n'))).status, 200);
  for (const line of (await scrape(api)).split("\n").filter((line) => line !== "")) {
    assert(/^(# (HELP|TYPE) [a-zA-Z_:][\w:]* .+|[a-zA-Z_:][\w:]*\{.*\} \S+)$/.test(line), JSON.stringify(line));
  }
});
