import { TorporError } from "@torpor/errors";
import type { TraceSpan } from "@torpor/proto/torpor";
import type { Api } from "../client/api.ts";

const POLL_MS = 250;
/** Longer than the services take to export a span (OTEL_BSP_SCHEDULE_DELAY, 1 s). */
const QUIET_MS = 1250;

/**
 * Fetches a trace. Spans arrive in batches shortly after they ended, so this asks until every span but one has its parent
 * and no span has come for {@linkcode QUIET_MS}, or the newest one ended long before that.
 * @param patienceMs after this time the spans that are there are returned.
 * @throws TorporError `trace_not_found` when no span has arrived by then.
 */
export async function waitForTrace(api: Api, traceId: string, patienceMs: number): Promise<TraceSpan[]> {
  const deadline = performance.now() + patienceMs;
  let before = -1;
  let changedAt = performance.now();
  for (;;) {
    const spans = await spansOf(api, traceId, performance.now() > deadline);
    if (spans.length !== before) changedAt = performance.now();
    const quietMs = Math.max(performance.now() - changedAt, spans.length > 0 ? Date.now() - newestEndMs(spans) : 0);
    const settled = spans.length > 0 && orphans(spans) <= 1 && quietMs > QUIET_MS;
    if (settled || performance.now() > deadline) return spans;
    before = spans.length;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function spansOf(api: Api, traceId: string, last: boolean): Promise<TraceSpan[]> {
  try {
    return (await api.traces.getTrace({ traceId })).spans;
  } catch (error) {
    if (error instanceof TorporError && error.code === "trace_not_found" && !last) return [];
    throw error;
  }
}

function newestEndMs(spans: readonly TraceSpan[]): number {
  return Math.max(...spans.map((span) => Number(span.endUnixNs / 1_000_000n)));
}

function orphans(spans: readonly TraceSpan[]): number {
  const ids = new Set(spans.map((span) => span.spanId));
  return spans.filter((span) => !ids.has(span.parentSpanId)).length;
}
