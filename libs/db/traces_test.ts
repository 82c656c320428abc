import { assertEquals } from "@std/assert";
import { openTestDatabase } from "@torpor/testing/postgres";
import { getTraceSpans, insertSpans, listTraces, SANDBOX_ID_ATTRIBUTE, type SpanRow } from "./mod.ts";

function span(trace: number, id: number, fields: Partial<SpanRow> = {}): SpanRow {
  return {
    traceId: trace.toString(16).padStart(32, "0"),
    spanId: id.toString(16).padStart(16, "0"),
    parentSpanId: "00000000000000ff",
    name: `span ${id}`,
    component: "api",
    startNs: 1_800_000_000_000_000_001n + BigInt(id),
    endNs: 1_800_000_000_000_000_101n + BigInt(id),
    attributes: {},
    status: "unset",
    statusMessage: "",
    ...fields,
  };
}

Deno.test("spans come back with every nanosecond; repeats and order do not matter", async () => {
  await using test = await openTestDatabase();
  const spans = [
    span(1, 3, {
      attributes: { [SANDBOX_ID_ATTRIBUTE]: "s", "snake_case": "kept" },
      status: "error",
      statusMessage: "x",
    }),
    span(1, 2),
    span(1, 1, { parentSpanId: "", name: "root" }),
  ];
  await insertSpans(test.database, [spans[0]!, spans[1]!], 10);
  await insertSpans(test.database, spans, 10);
  assertEquals(await getTraceSpans(test.database.sql, spans[0]!.traceId), spans.toReversed());
  const summary = {
    traceId: spans[0]!.traceId,
    rootName: "root",
    startNs: spans[2]!.startNs,
    endNs: spans[0]!.endNs,
    spanCount: 3,
  };
  assertEquals(await listTraces(test.database.sql, { limit: 5 }), [summary]);
  assertEquals(await listTraces(test.database.sql, { limit: 5, sandboxId: "s" }), [summary]);
  assertEquals(await listTraces(test.database.sql, { limit: 5, sandboxId: "t" }), []);
});

Deno.test("only the newest traces are kept, with concurrent writers", async () => {
  await using test = await openTestDatabase();
  await Promise.all(
    Array.from({ length: 20 }, (_, index) => insertSpans(test.database, [span(index, 1), span(99, index)], 5)),
  );
  await insertSpans(test.database, [span(200, 1)], 5);
  const traces = await listTraces(test.database.sql, { limit: 100 });
  assertEquals(traces.length, 5);
  assertEquals((await test.database.sql`select distinct trace_id from trace_spans`).length, 5);
  const last = traces.find((trace) => trace.traceId === span(99, 0).traceId);
  assertEquals(last?.spanCount ?? 20, 20);
});
