import { named, type Queryable } from "./database.ts";
import { SANDBOX_STATES } from "./sandboxes.ts";

const LIVE_STATES = SANDBOX_STATES.filter((state) => state !== "deleted");

/** How many there are of what, over all teams. */
export interface Census {
  /** By state, 0 included; deleted ones are not counted. */
  sandboxes: Map<string, number>;
  /** Operations that have not ended, by kind. */
  operations: Map<string, number>;
  /** Connections of the database's clients. */
  connections: { applicationName: string; state: string; count: number }[];
}

interface CensusRecord {
  subject: "sandbox" | "operation" | "connection";
  name: string;
  state: string;
  count: number;
}

/**
 * Counts everything in one statement: index-only scans of what is not deleted, or not ended, and the server's own table of
 * its connections.
 */
export async function takeCensus(sql: Queryable): Promise<Census> {
  const rows = await named("census", () =>
    sql<CensusRecord[]>`
    select 'sandbox' as subject, '' as name, state, count(*)::int as count from sandboxes
      where state in ${sql(LIVE_STATES)} group by state
    union all
    select 'operation', kind, '', count(*)::int from operations where state = 'running' group by kind
    union all
    select 'connection', application_name, coalesce(state, ''), count(*)::int from pg_stat_activity
      where datname = current_database() and backend_type = 'client backend' group by 2, 3`);
  const of = (subject: CensusRecord["subject"]) => rows.filter((row) => row.subject === subject);
  const sandboxes = new Map<string, number>(LIVE_STATES.map((state) => [state, 0]));
  for (const { state, count } of of("sandbox")) sandboxes.set(state, count);
  return {
    sandboxes,
    operations: new Map(of("operation").map(({ name, count }) => [name, count])),
    connections: of("connection").map(({ name, state, count }) => ({ applicationName: name, state, count })),
  };
}
