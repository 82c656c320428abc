import {
  type Attributes,
  context,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import { asTorporError } from "@torpor/errors";

/**
 * The parts of the system that make spans. `pager` and `guest` cannot export spans themselves: the host agent records
 * them from what those report, under their own component name.
 */
export type Component = "cli" | "api" | "scheduler" | "reconciler" | "hostagent" | "pager" | "guest";

/** The span attribute that names the component when it is not the process itself (then it is `service.name`). */
export const COMPONENT_ATTRIBUTE = "torpor.component";

const tracer = trace.getTracer("torpor");

/** Sees the work of a process go by: each span when it begins, and when its work has succeeded, before anybody knows. */
export type SpanObserver = (name: string, phase: "begin" | "end", attributes: Attributes) => void;

let observer: SpanObserver | undefined;

/** Has `observe` called for each span of this process from now on. Tests end processes there: every step is a span. */
export function observeSpans(observe: SpanObserver): void {
  observer = observe;
}

/**
 * Runs `work` inside a span. The span ends when the promise settles; an error becomes its status and the attribute
 * `error.code`, and is thrown on.
 */
export async function withSpan<T>(
  name: string,
  attributes: Attributes,
  work: (span: Span) => T | Promise<T>,
): Promise<T> {
  return await tracer.startActiveSpan(name, { attributes }, async (span) => {
    try {
      observer?.(name, "begin", attributes);
      const result = await work(span);
      observer?.(name, "end", attributes);
      return result;
    } catch (thrown) {
      recordError(span, thrown);
      throw thrown;
    } finally {
      span.end();
    }
  });
}

/** Marks a span as failed with the error's stable code. */
export function recordError(span: Span, thrown: unknown): void {
  const error = asTorporError(thrown);
  span.setAttribute("error.code", error.code);
  span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
}

/** A span that something outside this process timed. */
export interface ReportedSpan {
  component: Component;
  name: string;
  /** Wall clock of this host, milliseconds with fraction. */
  startUnixMs: number;
  durationMs: number;
  attributes?: Attributes;
}

/** Records a span that a pager or a guest reported, as a child of the active span. */
export function recordReportedSpan(reported: ReportedSpan): void {
  const span = tracer.startSpan(reported.name, {
    startTime: reported.startUnixMs,
    attributes: { ...reported.attributes, [COMPONENT_ATTRIBUTE]: reported.component },
  });
  span.end(reported.startUnixMs + reported.durationMs);
}

/** The name of the active span's server operation, better than the bare HTTP method that Deno gives it. */
export function nameActiveSpan(name: string, attributes: Attributes = {}): void {
  const span = trace.getActiveSpan();
  span?.updateName(name);
  span?.setAttributes(attributes);
}

/** The active span's context; undefined outside of a trace and in {@linkcode untraced} work. */
export function activeSpanContext(): SpanContext | undefined {
  const span = trace.getActiveSpan()?.spanContext();
  return !span || /^0+$/.test(span.traceId) || span.traceId === UNSAMPLED.traceId ? undefined : span;
}

/** The trace id of the active span, 32 hexadecimal digits, or undefined outside of a trace. */
export function currentTraceId(): string | undefined {
  return activeSpanContext()?.traceId;
}

/** The W3C `traceparent` of the active span, or "" outside of a trace. It is stored with each operation. */
export function currentTraceparent(): string {
  const span = activeSpanContext();
  return span ? `00-${span.traceId}-${span.spanId}-${span.traceFlags.toString(16).padStart(2, "0")}` : "";
}

/** Runs `work` as a continuation of the trace that `traceparent` names; with "" or a broken one, of no trace. */
export function continueTrace<T>(traceparent: string, work: () => T): T {
  const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceparent);
  if (!match) return work();
  const parent = trace.setSpanContext(context.active(), {
    traceId: match[1]!,
    spanId: match[2]!,
    traceFlags: parseInt(match[3]!, 16),
    isRemote: true,
  });
  return context.with(parent, work);
}

/** A parent that is not sampled: with the sampler `parentbased_always_on` nothing below it is exported, here or downstream. */
const UNSAMPLED = { traceId: "1".repeat(32), spanId: "2".repeat(16), traceFlags: 0, isRemote: true };

/**
 * Runs periodic work (heartbeats, reconcile passes) outside of any trace: a trace for each round would push the traces
 * of users' requests out of the store. What such work finds to do begins a trace by {@linkcode newTrace}.
 */
export function untraced<T>(work: () => T): T {
  return context.with(trace.setSpanContext(context.active(), UNSAMPLED), work);
}

/** Runs `work` in a span that begins a trace of its own, whatever is active. */
export async function newTrace<T>(
  name: string,
  attributes: Attributes,
  work: (span: Span) => T | Promise<T>,
): Promise<T> {
  return await context.with(ROOT_CONTEXT, () => withSpan(name, attributes, work));
}
