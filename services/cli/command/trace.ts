import type { TraceSpan } from "@torpor/proto/torpor";
import { apiTarget, openApi } from "../client/api.ts";
import { formatMs } from "../terminal/format.ts";
import { paintFor } from "../terminal/paint.ts";
import { consoleColumns } from "../terminal/progress.ts";
import { drawWaterfall } from "../trace/waterfall.ts";
import { waitForTrace } from "../trace/wait_for_trace.ts";
import { defineAction, integerOption } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor trace` */
export const trace = defineAction({
  name: "trace",
  description: "Show where the time of a request went, as a waterfall over all services, the pager and the guest",
  args: {
    id: { type: "positional", required: true, description: "Trace id: 32 hexadecimal digits" },
    min: { type: "string", description: "Leave out what took less than this many milliseconds", valueHint: "ms" },
    wait: { type: "string", description: "Seconds to wait for spans that are on their way (default: 5)" },
  },
  async run({ args }) {
    if (!/^[0-9a-f]{32}$/.test(args.id)) throw new UsageError("a trace id has 32 hexadecimal digits");
    const minMs = integerOption(args.min, "--min", 0, 1_000_000) ?? 0;
    const patienceMs = 1000 * (integerOption(args.wait, "--wait", 0, 600) ?? 5);
    using api = openApi(await apiTarget());
    const spans = await waitForTrace(api, args.id, patienceMs);
    if (args.json) return printJson({ trace_id: args.id, spans: spans.map(spanJson) });
    const starts = spans.map((span) => Number(span.startUnixNs / 1000n));
    const ends = spans.map((span) => Number(span.endUnixNs / 1000n));
    console.log(drawWaterfall(spans, { columns: consoleColumns(), minMs }, paintFor(Deno.stdout)));
    const components = new Set(spans.map((span) => span.component));
    const total = formatMs((Math.max(...ends) - Math.min(...starts)) / 1000);
    console.log(`\n${spans.length} spans of ${[...components].join(", ")} in ${total}`);
  },
});

function spanJson(span: TraceSpan): Record<string, unknown> {
  return {
    span_id: span.spanId,
    parent_span_id: span.parentSpanId || null,
    name: span.name,
    component: span.component,
    // Strings: nanoseconds since 1970 are beyond what JSON numbers keep exactly.
    start_unix_ns: String(span.startUnixNs),
    end_unix_ns: String(span.endUnixNs),
    duration_ms: Number(span.endUnixNs - span.startUnixNs) / 1e6,
    attributes: span.attributes,
    status: span.status,
    status_message: span.statusMessage || null,
  };
}
