import type postgres from "postgres";
import { type Database, named, type Queryable } from "./database.ts";
import { DEFAULT_TEAM_ID } from "./teams.ts";

/** The span attribute by which traces of a sandbox are found. */
export const SANDBOX_ID_ATTRIBUTE = "torpor.sandbox_id";

/** One span, as the OTLP receiver stores it. Times are UNIX nanoseconds. */
export interface SpanRow {
  /** 32 hexadecimal digits. */
  traceId: string;
  /** 16 hexadecimal digits. */
  spanId: string;
  /** "" for a root. */
  parentSpanId: string;
  name: string;
  component: string;
  startNs: bigint;
  endNs: bigint;
  attributes: Record<string, string>;
  status: "unset" | "ok" | "error";
  statusMessage: string;
}

/** A trace in a list. */
export interface TraceRow {
  traceId: string;
  /** "" while the root has not arrived. */
  rootName: string;
  startNs: bigint;
  endNs: bigint;
  spanCount: number;
}

/**
 * Stores spans (repeated ones are ignored) and forgets all but the newest `keepTraces` traces.
 */
export async function insertSpans(database: Database, spans: SpanRow[], keepTraces: number): Promise<void> {
  if (spans.length === 0) return;
  await database.transaction("insert_spans", async (sql) => {
    await upsertTraces(sql, spans);
    const inserted = await sql<{ traceId: string }[]>`
      insert into trace_spans (trace_id, span_id, parent_span_id, name, component, start_ns, end_ns, attributes, status,
        status_message)
      select trace_id, span_id, parent_span_id, name, component, start_ns, end_ns, attributes, status, status_message
      from jsonb_populate_recordset(null::trace_spans, ${sql.json(spans.map(toRecord))})
      on conflict do nothing
      returning trace_id`;
    await countSpans(sql, inserted.map((row) => row.traceId));
    await sql`
      delete from traces where trace_id in (
        select trace_id from traces order by updated_at desc offset ${keepTraces} limit 1000)`;
  });
}

function toRecord(span: SpanRow) {
  return {
    trace_id: span.traceId,
    span_id: span.spanId,
    parent_span_id: span.parentSpanId,
    name: span.name,
    component: span.component,
    start_ns: span.startNs.toString(),
    end_ns: span.endNs.toString(),
    attributes: span.attributes,
    status: span.status,
    status_message: span.statusMessage,
  };
}

async function upsertTraces(sql: Queryable, spans: SpanRow[]): Promise<void> {
  const traces = new Map<string, TraceRow>();
  for (const span of spans) {
    const trace = traces.get(span.traceId) ??
      { traceId: span.traceId, rootName: "", startNs: span.startNs, endNs: span.endNs, spanCount: 0 };
    if (span.startNs < trace.startNs) trace.startNs = span.startNs;
    if (span.endNs > trace.endNs) trace.endNs = span.endNs;
    if (span.parentSpanId === "") trace.rootName = span.name;
    traces.set(span.traceId, trace);
  }
  // Sorted, so that two batches that share traces lock them in the same order. The time is that of the write, not now(): a
  // batch that waited for another's lock began before it.
  for (const trace of [...traces.values()].sort((a, b) => a.traceId < b.traceId ? -1 : 1)) {
    await sql`
      insert into traces (trace_id, root_name, start_ns, end_ns, updated_at)
      values (${trace.traceId}, ${trace.rootName}, ${trace.startNs}, ${trace.endNs}, clock_timestamp())
      on conflict (trace_id) do update set
        root_name = case when excluded.root_name <> '' then excluded.root_name else traces.root_name end,
        start_ns = least(traces.start_ns, excluded.start_ns), end_ns = greatest(traces.end_ns, excluded.end_ns),
        updated_at = clock_timestamp()`;
  }
}

async function countSpans(sql: Queryable, traceIds: string[]): Promise<void> {
  await sql`
    update traces set span_count = span_count + added.count
    from (select trace_id, count(*)::int as count from unnest(${traceIds}::text[]) as t (trace_id) group by trace_id) added
    where traces.trace_id = added.trace_id`;
}

/**
 * Tells whether a team may see a trace: all teams in it, by who called and by whose sandboxes it is about, are this one.
 * One without any is the control plane's own, and shown to the team of who runs it.
 */
function isVisible(sql: Queryable, traceId: postgres.Fragment | string, teamId: string) {
  return sql`coalesce((
    select bool_and(owners.team_id = ${teamId}) from (
      select attributes ->> 'torpor.team_id' as team_id from trace_spans
      where trace_id = ${traceId} and attributes ? 'torpor.team_id'
      union
      select sandboxes.team_id from trace_spans join sandboxes on sandboxes.id = attributes ->> 'torpor.sandbox_id'
      where trace_id = ${traceId} and attributes ? 'torpor.sandbox_id') as owners), ${teamId === DEFAULT_TEAM_ID})`;
}

/**
 * All stored spans of a trace, by start; empty when none is known.
 * @param teamId only when this team may see it.
 */
export async function getTraceSpans(sql: Queryable, traceId: string, teamId?: string): Promise<SpanRow[]> {
  return await named("get_trace_spans", async () => [
    ...await sql<SpanRow[]>`
    select * from trace_spans where trace_id = ${traceId}
      ${teamId === undefined ? sql`` : sql`and ${isVisible(sql, traceId, teamId)}`}
    order by start_ns, end_ns desc, span_id`,
  ]);
}

/** The newest traces, of one sandbox when `sandboxId` is given, that a team may see when `teamId` is. */
export async function listTraces(
  sql: Queryable,
  filter: { sandboxId?: string; teamId?: string; limit: number },
): Promise<TraceRow[]> {
  const ofTeam = filter.teamId === undefined ? sql`true` : isVisible(sql, sql`traces.trace_id`, filter.teamId);
  const ofSandbox = filter.sandboxId === undefined ? sql`` : sql`
    and trace_id in (select trace_id from trace_spans
      where attributes ? 'torpor.sandbox_id' and attributes ->> 'torpor.sandbox_id' = ${filter.sandboxId})`;
  return await named("list_traces", async () => [
    ...await sql<TraceRow[]>`
    select trace_id, root_name, start_ns, end_ns, span_count from traces where ${ofTeam} ${ofSandbox}
    order by start_ns desc limit ${filter.limit}`,
  ]);
}
