import { assertEquals } from "@std/assert";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type SpanOptions, type TimeInput, trace, type Tracer } from "@opentelemetry/api";
import { type Span, SpanSchema } from "@torpor/proto/guest";
import { recordGuestSpans } from "./reported_spans.ts";

const request = { traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`, sentUnixMs: 1000 };

type Recorded = [name: string, beginMs: number, endMs: number];
let recorded: Recorded[] = [];
// The part of a tracer that recordReportedSpan uses. A provider can be set only once in a process.
const startSpan = (name: string, { startTime }: SpanOptions) => ({
  end: (endTime: TimeInput) => recorded.push([name, Number(startTime) - 1000, Number(endTime) - 1000]),
});
trace.setGlobalTracerProvider({ getTracer: () => ({ startSpan }) as unknown as Tracer });

/** Records spans; returns their begin and end in milliseconds after the request was sent. */
function record(spans: MessageInitShape<typeof SpanSchema>[], traceparent = request.traceparent): Recorded[] {
  recorded = [];
  recordGuestSpans({ ...request, traceparent }, spans.map((span): Span => create(SpanSchema, span)), 1010);
  return recorded;
}

Deno.test("the guest's spans lie within the request, whatever the guest says", () => {
  const ms = 1_000_000n;
  const placed = record([
    { name: "guest.inside", startOffsetNs: ms, durationNs: 2n * ms },
    { name: "guest.too_long", startOffsetNs: 4n * ms, durationNs: 100n * ms },
    { name: "guest.too_late", startOffsetNs: 2n ** 64n - 1n, durationNs: 2n ** 64n - 1n },
  ]);
  assertEquals(placed, [["guest.inside", 1, 3], ["guest.too_long", 4, 10], ["guest.too_late", 10, 10]]);
});

Deno.test("odd names, too many spans and requests outside of a trace are left out", () => {
  assertEquals(record([{ name: "" }, { name: "<b>" }, { name: "x".repeat(65) }]), []);
  assertEquals(record(Array.from({ length: 100 }, () => ({ name: "guest.x" }))).length, 32);
  assertEquals(record([{ name: "guest.x" }], ""), []);
});
