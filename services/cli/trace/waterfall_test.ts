import { create } from "@bufbuild/protobuf";
import { assert, assertEquals } from "@std/assert";
import { TraceSpanSchema } from "@torpor/proto/torpor";
import { depthFirst, spanTrees } from "./span_tree.ts";
import { drawWaterfall } from "./waterfall.ts";

const MS = 1_000_000n;

function span(spanId: string, parentSpanId: string, startMs: number, endMs: number, status = "unset") {
  return create(TraceSpanSchema, {
    ...{ spanId, parentSpanId, name: `n-${spanId}`, component: "api", status },
    startUnixNs: BigInt(startMs) * MS,
    endUnixNs: BigInt(endMs) * MS,
  });
}

Deno.test("children follow their parents in the order in which they started", () => {
  const spans = [span("c", "a", 5, 6), span("b", "a", 1, 2), span("a", "caller", 0, 10), span("d", "b", 1, 2)];
  const order = [...depthFirst(spanTrees(spans))].map(({ span, depth }) => [span.spanId, depth]);
  assertEquals(order, [["a", 0], ["b", 1], ["d", 2], ["c", 1]]);
});

Deno.test("bars lie on one time axis, and fit", () => {
  const spans = [span("a", "", 1000, 1100), span("b", "a", 1050, 1100), span("c", "a", 1099, 1100)];
  const lines = drawWaterfall(spans, { columns: 80, minMs: 0 }, (_style, text) => text).split("\n");
  const bars = lines.map((line) => line.slice(line.indexOf("│") + 1));
  const width = bars[0]!.length;
  assertEquals(bars[0], "█".repeat(width));
  assertEquals(bars[1]!.indexOf("█"), Math.floor(width / 2));
  assertEquals(bars[1]!.length, width);
  assert(lines.every((line) => line.length <= 80));
  assertEquals(lines.map((line) => line.trim().split(/\s+/)[0]), ["api", "api", "api"]);
});

Deno.test("short spans can be left out, and an empty trace draws nothing", () => {
  const spans = [span("a", "", 0, 100), span("b", "a", 0, 1)];
  assertEquals(drawWaterfall(spans, { columns: 80, minMs: 10 }, (_s, text) => text).split("\n").length, 1);
  assertEquals(drawWaterfall([], { columns: 80, minMs: 0 }, (_s, text) => text), "");
});
