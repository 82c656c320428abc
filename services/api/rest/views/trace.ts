import { z } from "@hono/zod-openapi";
import type { SpanRow, TraceRow } from "@torpor/db";

/** UNIX nanoseconds exceed what a JSON number holds exactly. */
const nanoseconds = z.string().regex(/^[0-9]+$/).openapi({ description: "UNIX nanoseconds, decimal." });

export const spanView = z.object({
  trace_id: z.string(),
  span_id: z.string(),
  parent_span_id: z.string().nullable().openapi({ description: "null for a root." }),
  name: z.string(),
  component: z.string().openapi({ example: "hostagent" }),
  start_unix_ns: nanoseconds,
  end_unix_ns: nanoseconds,
  duration_ms: z.number(),
  attributes: z.record(z.string(), z.string()),
  status: z.enum(["unset", "ok", "error"]),
  status_message: z.string(),
}).openapi("Span");

export const traceView = z.object({ trace_id: z.string(), spans: z.array(spanView) }).openapi("Trace");

export const traceSummaryView = z.object({
  trace_id: z.string(),
  root_name: z.string().openapi({ description: "Empty while the root has not arrived." }),
  start_unix_ns: nanoseconds,
  duration_ms: z.number(),
  span_count: z.int(),
}).openapi("TraceSummary");

export const traceListView = z.object({ traces: z.array(traceSummaryView) }).openapi("TraceList");

function milliseconds(startNs: bigint, endNs: bigint): number {
  return Number(endNs - startNs) / 1e6;
}

/** A span of a trace. */
export function viewSpan(span: SpanRow): z.input<typeof spanView> {
  return {
    trace_id: span.traceId,
    span_id: span.spanId,
    parent_span_id: span.parentSpanId || null,
    name: span.name,
    component: span.component,
    start_unix_ns: span.startNs.toString(),
    end_unix_ns: span.endNs.toString(),
    duration_ms: milliseconds(span.startNs, span.endNs),
    attributes: span.attributes,
    status: span.status,
    status_message: span.statusMessage,
  };
}

/** A trace in a list. */
export function viewTraceSummary(trace: TraceRow): z.input<typeof traceSummaryView> {
  return {
    trace_id: trace.traceId,
    root_name: trace.rootName,
    start_unix_ns: trace.startNs.toString(),
    duration_ms: milliseconds(trace.startNs, trace.endNs),
    span_count: trace.spanCount,
  };
}
