import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";

// The spans are looked at from outside, as a receiver sees them: Deno exports only when the process starts with OTEL_DENO.
const program = `
import { continueTrace, recordReportedSpan, withSpan } from "${import.meta.resolve("./mod.ts")}";
await continueTrace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", () =>
  withSpan("outer", { n: 1 }, async () => {
    recordReportedSpan({ component: "guest", name: "inner", startUnixMs: 1700000000000.5, durationMs: 2 });
    await withSpan("failing", {}, () => { throw new Error("no"); }).catch(() => {});
  }));
`;

interface OtlpSpan {
  traceId: string;
  spanId: string;
  parentSpanId: string;
  name: string;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: { stringValue?: string } }[];
  status: { code?: number };
}

async function exportedSpans(code: string): Promise<OtlpSpan[]> {
  const spans: OtlpSpan[] = [];
  await using receiver = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const body = await request.json();
    for (const resource of body.resourceSpans) {
      for (const scope of resource.scopeSpans) spans.push(...scope.spans);
    }
    return Response.json({});
  });
  const directory = await Deno.makeTempDir();
  const file = join(directory, "program.ts");
  await Deno.writeTextFile(file, code);
  const output = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "--config",
      new URL("../../deno.json", import.meta.url).pathname,
      "-A",
      file,
    ],
    env: {
      OTEL_DENO: "true",
      OTEL_SERVICE_NAME: "hostagent",
      OTEL_METRICS_EXPORTER: "none",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${receiver.addr.port}`,
    },
  }).output();
  await Deno.remove(directory, { recursive: true });
  assertEquals(new TextDecoder().decode(output.stderr), "");
  return spans;
}

Deno.test("spans continue the caller's trace, and a guest's span has its own component and times", async () => {
  const spans = new Map((await exportedSpans(program)).map((span) => [span.name, span]));
  const [outer, inner, failing] = ["outer", "inner", "failing"].map((name) => spans.get(name)!);
  assertEquals([outer!.traceId, outer!.parentSpanId], ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"]);
  assertEquals([inner!.parentSpanId, failing!.parentSpanId], [outer!.spanId, outer!.spanId]);
  // Milliseconds since 1970 in a double keep about 0.2 µs.
  const durationNs = Number(BigInt(inner!.endTimeUnixNano) - BigInt(inner!.startTimeUnixNano));
  assertAlmostEquals(durationNs, 2_000_000, 1_000);
  const attribute = (span: OtlpSpan, key: string) => span.attributes.find((a) => a.key === key)?.value.stringValue;
  assertEquals([attribute(inner!, "torpor.component"), attribute(failing!, "error.code")], ["guest", "internal"]);
  assertEquals(failing!.status.code, 2);
});

Deno.test("without a collector, spans cost nothing and errors pass through", async () => {
  const { withSpan } = await import("./mod.ts");
  await assertRejects(() => withSpan("x", {}, () => Promise.reject(new RangeError("kept"))), RangeError, "kept");
});
