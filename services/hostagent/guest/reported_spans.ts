import type { Span } from "@torpor/proto/guest";
import { continueTrace, recordReportedSpan } from "@torpor/telemetry";
import { MAX_REPORTED_SPANS } from "./limits.ts";

const NAME_PATTERN = /^[a-z][a-z0-9_.]{0,63}$/;

/** When and in which trace a request was sent. */
export interface SentRequest {
  traceparent: string;
  sentUnixMs: number;
}

/**
 * Records the guest's spans of one request in the trace of its caller. The guest counts from the moment it decoded the
 * request and its clock is not ours: each span is placed after the sending, and cut at the moment of the answer.
 */
export function recordGuestSpans(request: SentRequest, spans: Span[], answeredUnixMs: number): void {
  if (request.traceparent === "") return;
  const limitMs = Math.max(0, answeredUnixMs - request.sentUnixMs);
  continueTrace(request.traceparent, () => {
    for (const span of spans.slice(0, MAX_REPORTED_SPANS)) {
      if (!NAME_PATTERN.test(span.name)) continue;
      const offsetMs = Math.min(Number(span.startOffsetNs) / 1e6, limitMs);
      const durationMs = Math.min(Number(span.durationNs) / 1e6, limitMs - offsetMs);
      recordReportedSpan({
        component: "guest",
        name: span.name,
        startUnixMs: request.sentUnixMs + offsetMs,
        durationMs,
      });
    }
  });
}
