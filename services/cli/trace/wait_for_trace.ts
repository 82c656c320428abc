import { TorporError } from "@torpor/errors";
import type { TraceSpan } from "@torpor/proto/torpor";
import type { Api } from "../client/api.ts";

const POLL_MS = 250;

/**
 * Fetches a trace. Spans arrive in batches shortly after they ended, so this asks until two answers in a row are equal
 * and every span but one has its parent.
 * @param patienceMs after this time the spans that are there are returned.
 * @throws TorporError `trace_not_found` when no span has arrived by then.
 */
export async function waitForTrace(api: Api, traceId: string, patienceMs: number): Promise<TraceSpan[]> {
  const deadline = performance.now() + patienceMs;
  let before = -1;
  for (;;) {
    const spans = await spansOf(api, traceId, performance.now() > deadline);
    const settled = spans.length > 0 && spans.length === before && orphans(spans) <= 1;
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

function orphans(spans: readonly TraceSpan[]): number {
  const ids = new Set(spans.map((span) => span.spanId));
  return spans.filter((span) => !ids.has(span.parentSpanId)).length;
}
