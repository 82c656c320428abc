import { DEFAULT_POLICY, type NetworkPolicy } from "@torpor/network";
import { named, type Queryable } from "./database.ts";
import type { ReclaimCaps } from "./reclaim.ts";
import { type SnapshotColumns, snapshotOf, type SnapshotRow } from "./snapshots.ts";

/** The states of a sandbox; libs/lifecycle knows which may follow which. */
export const SANDBOX_STATES = [
  "pending",
  "starting",
  "running",
  "pausing",
  "paused",
  "resuming",
  "snapshotting",
  "lost",
  "failed",
  "deleting",
  "deleted",
] as const;

/** One of {@linkcode SANDBOX_STATES}. */
export type SandboxState = typeof SANDBOX_STATES[number];

/** What becomes of a sandbox whose `ttlSec` are over. */
export type OnTtl = "pause" | "delete";

/** What a client asks for when it creates a sandbox. */
export interface SandboxSpec {
  template: string;
  vcpus: number;
  memoryMb: number;
  diskSizeMb: number;
  /** Idle seconds until it is paused; 0: never. */
  timeoutSec: number;
  /** Seconds in state `paused` until it is deleted; 0: never. */
  autoDeleteAfterSec: number;
  /** Seconds it may exist (`onTtl` delete), or run since its creation or last resume (pause), however busy; 0: no limit. */
  ttlSec: number;
  onTtl: OnTtl;
  env: Record<string, string>;
  metadata: Record<string, string>;
  /** What it is spawned from; null: it boots its template. */
  sourceSnapshotId: string | null;
  /** What its pauses do in the guest first; null: what the host does by default. */
  reclaim: ReclaimCaps | null;
  /** Its host has all of these labels; absent: any. */
  hostLabels?: Record<string, string>;
  /** … and all of these capabilities. */
  requiredCapabilities?: string[];
  /** Traffic to one of its ports resumes it when it is paused; default false. */
  autoResume?: boolean;
  /** false: requests to its ports must show its token; default true. */
  publicTraffic?: boolean;
  /** What it may reach; absent: everything but what no sandbox may. */
  network?: NetworkPolicy;
}

/** A sandbox as the database knows it. */
export interface SandboxRow extends SandboxSpec {
  id: string;
  teamId: string;
  state: SandboxState;
  /** Grows by one with each state change; the fencing token of host calls. */
  version: bigint;
  /** The operation in flight, or the last one. */
  operationId: string | null;
  /** Where it runs, or where its snapshot is. */
  hostId: string | null;
  /** When a transitional state is taken for stuck; null at rest. */
  deadline: Date | null;
  stateChangedAt: Date;
  /** An error code, for `failed` and `lost`; else "". */
  reason: string;
  /** "kvm" or "tcg"; "" while it does not run. */
  accelerator: string;
  /** The newest snapshot. */
  snapshot: SnapshotRow | null;
  createdAt: Date;
  lastActiveAt: Date;
  pausedAt: Date | null;
  /** When `onTtl` happens. */
  expiresAt: Date | null;
  deletedAt: Date | null;
  autoResume: boolean;
  publicTraffic: boolean;
  /** What opens its ports when they are not public; a secret of its own, also of a fork. */
  trafficToken: string;
  network: NetworkPolicy;
  /** Grows by one with each change of `network` after its creation. */
  networkRevision: bigint;
}

/** A record of `select sandboxes.*`. */
export type SandboxRecord = Omit<SandboxRow, "snapshot"> & SnapshotColumns;

/** A record of `select sandboxes.*` as a row. */
export function toSandboxRow(record: SandboxRecord): SandboxRow {
  return {
    id: record.id,
    teamId: record.teamId,
    state: record.state,
    version: record.version,
    operationId: record.operationId,
    hostId: record.hostId,
    deadline: record.deadline,
    stateChangedAt: record.stateChangedAt,
    reason: record.reason,
    template: record.template,
    vcpus: record.vcpus,
    memoryMb: record.memoryMb,
    diskSizeMb: record.diskSizeMb,
    timeoutSec: record.timeoutSec,
    autoDeleteAfterSec: record.autoDeleteAfterSec,
    ttlSec: record.ttlSec,
    onTtl: record.onTtl,
    env: record.env,
    metadata: record.metadata,
    sourceSnapshotId: record.sourceSnapshotId,
    reclaim: record.reclaim,
    hostLabels: record.hostLabels,
    requiredCapabilities: record.requiredCapabilities,
    accelerator: record.accelerator,
    snapshot: snapshotOf(record),
    createdAt: record.createdAt,
    lastActiveAt: record.lastActiveAt,
    pausedAt: record.pausedAt,
    expiresAt: record.expiresAt,
    deletedAt: record.deletedAt,
    autoResume: record.autoResume,
    publicTraffic: record.publicTraffic,
    trafficToken: record.trafficToken,
    network: record.network,
    networkRevision: record.networkRevision,
  };
}

/** Runs a query whose rows are whole sandboxes. */
export async function sandboxRows(name: string, query: () => PromiseLike<readonly unknown[]>): Promise<SandboxRow[]> {
  return await named(name, async () => (await query() as SandboxRecord[]).map(toSandboxRow));
}

/** One sandbox of a team, deleted ones too. */
export async function getSandbox(sql: Queryable, teamId: string, id: string): Promise<SandboxRow | undefined> {
  const rows = await sandboxRows("get_sandbox", () =>
    sql`
    select * from sandboxes where id = ${id} and team_id = ${teamId}`);
  return rows[0];
}

/** One sandbox whatever its team: for operations that are already authorized. */
export async function getSandboxOfAnyTeam(sql: Queryable, id: string): Promise<SandboxRow | undefined> {
  const rows = await sandboxRows("get_sandbox", () => sql`select * from sandboxes where id = ${id}`);
  return rows[0];
}

/** As {@linkcode getSandbox}, locked until the transaction ends. */
export async function lockSandbox(sql: Queryable, teamId: string, id: string): Promise<SandboxRow | undefined> {
  const rows = await sandboxRows("lock_sandbox", () =>
    sql`
    select * from sandboxes where id = ${id} and team_id = ${teamId} for update`);
  return rows[0];
}

/** As {@linkcode getSandboxOfAnyTeam}, locked until the transaction ends. */
export async function lockSandboxOfAnyTeam(sql: Queryable, id: string): Promise<SandboxRow | undefined> {
  const rows = await sandboxRows("lock_sandbox", () => sql`select * from sandboxes where id = ${id} for update`);
  return rows[0];
}

/** Writes a new sandbox in state `pending`, held by `operationId` (inserted in the same transaction). */
export async function insertSandbox(sql: Queryable, sandbox: NewSandbox): Promise<SandboxRow> {
  const rows = await sandboxRows("insert_sandbox", () => insertSandboxStatement(sql, sandbox));
  return rows[0]!;
}

/** A sandbox that is to be written. */
export interface NewSandbox {
  id: string;
  teamId: string;
  operationId: string;
  deadlineMs: number;
  spec: SandboxSpec;
}

/** The statement of {@linkcode insertSandbox}, to be part of others. */
export function insertSandboxStatement(sql: Queryable, { spec, ...sandbox }: NewSandbox) {
  return sql`
    insert into sandboxes (id, team_id, state, operation_id, deadline, template, vcpus, memory_mb, disk_size_mb,
      timeout_sec, auto_delete_after_sec, ttl_sec, on_ttl, expires_at, env, metadata, source_snapshot_id, reclaim,
      host_labels, required_capabilities, auto_resume, public_traffic, network)
    values (${sandbox.id}, ${sandbox.teamId}, 'pending', ${sandbox.operationId},
      now() + ${sandbox.deadlineMs}::float8 * interval '1 millisecond', ${spec.template}, ${spec.vcpus},
      ${spec.memoryMb}, ${spec.diskSizeMb}, ${spec.timeoutSec}, ${spec.autoDeleteAfterSec}, ${spec.ttlSec},
      ${spec.onTtl}, now() + nullif(${spec.ttlSec}::int, 0) * interval '1 second', ${sql.json(spec.env)},
      ${sql.json(spec.metadata)}, ${spec.sourceSnapshotId}, ${spec.reclaim && sql.json({ ...spec.reclaim })},
      ${sql.json(spec.hostLabels ?? {})}, ${spec.requiredCapabilities ?? []}, ${spec.autoResume ?? false},
      ${spec.publicTraffic ?? true},
      ${sql.json({ ...spec.network ?? DEFAULT_POLICY })})
    returning *`;
}

/** What changes along with the state. What is not named stays, but `reason` becomes "" and the deadline is cleared. */
export interface SandboxChanges {
  operationId?: string;
  hostId?: string;
  /** From now; for transitional states only. */
  deadlineMs?: number;
  /** In addition, for each MiB of the guest's memory. */
  deadlineMsPerMb?: number;
  reason?: string;
  accelerator?: string;
  snapshot?: SnapshotRow;
  timeoutSec?: number;
}

/**
 * The assignments of every state change: version grows by one. Only what this change can assign: PostgreSQL makes each
 * expression ready anew for each statement.
 */
export function stateAssignments(sql: Queryable, to: SandboxState, changes: SandboxChanges) {
  return sql`
      state = ${to},
      version = version + 1,
      state_changed_at = clock_timestamp(),
      operation_id = coalesce(${changes.operationId ?? null}, operation_id),
      host_id = coalesce(${changes.hostId ?? null}, host_id),
      deadline = now() + (${changes.deadlineMs ?? null}::float8 + ${changes.deadlineMsPerMb ?? 0}::float8 * memory_mb)
        * interval '1 millisecond',
      reason = ${changes.reason ?? ""},
      accelerator = coalesce(${changes.accelerator ?? null}, accelerator),
      timeout_sec = coalesce(${changes.timeoutSec ?? null}::int, timeout_sec)
      ${changes.snapshot ? snapshotAssignments(sql, changes.snapshot) : sql``}
      ${timeAssignments(sql, to)}`;
}

function snapshotAssignments(sql: Queryable, snapshot: SnapshotRow) {
  return sql`,
      snapshot_id = ${snapshot.id},
      snapshot_generation = ${snapshot.generation}::int,
      snapshot_size_bytes = ${snapshot.sizeBytes}::int8,
      snapshot_memory_bytes = ${snapshot.memoryBytes}::int8,
      snapshot_disk_bytes = ${snapshot.diskBytes}::int8,
      snapshot_pages_resident = ${snapshot.pagesResident}::int8,
      snapshot_pages_dirty = ${snapshot.pagesDirty}::int8,
      snapshot_pages_data = ${snapshot.pagesData}::int8,
      snapshot_created_at = ${snapshot.createdAt}::timestamptz`;
}

/**
 * A checkpoint is no use of the sandbox, and a paused one has been paused since before it. A time to live that ends in a
 * pause is one of running.
 */
function timeAssignments(sql: Queryable, to: SandboxState) {
  switch (to) {
    case "running":
      return sql`,
      last_active_at = case when state <> 'snapshotting' then greatest(last_active_at, now()) else last_active_at end,
      expires_at = case when state = 'resuming' and on_ttl <> 'delete' and ttl_sec <> 0
        then now() + ttl_sec * interval '1 second' else expires_at end`;
    case "paused":
      return sql`,
      paused_at = case when state <> 'snapshotting' then now() else paused_at end,
      ${endOfTimeToRun(sql)}`;
    case "failed":
      return sql`, ${endOfTimeToRun(sql)}`;
    case "deleted":
      return sql`, deleted_at = now()`;
    default:
      return sql``;
  }
}

function endOfTimeToRun(sql: Queryable) {
  return sql`expires_at = case when on_ttl = 'delete' or ttl_sec = 0 or state = 'snapshotting' then expires_at end`;
}

/**
 * The compare-and-set under every state change. Use libs/lifecycle `transition`, which knows the allowed pairs of states.
 * @returns undefined when the sandbox has left `from`.
 */
export async function compareAndSetState(
  sql: Queryable,
  from: Pick<SandboxRow, "id" | "state" | "version">,
  to: SandboxState,
  changes: SandboxChanges,
): Promise<SandboxRow | undefined> {
  const rows = await sandboxRows("compare_and_set_state", () =>
    sql`
    update sandboxes set ${stateAssignments(sql, to, changes)}
    where id = ${from.id} and state = ${from.state} and version = ${from.version}
    returning *`);
  return rows[0];
}

/** Writes why the guest of a running sandbox stands still. @returns false when the sandbox has changed since. */
export async function setRunningReason(
  sql: Queryable,
  { id, version }: Pick<SandboxRow, "id" | "version">,
  reason: string,
): Promise<boolean> {
  const { count } = await named("set_running_reason", () =>
    sql`
    update sandboxes set reason = ${reason} where id = ${id} and version = ${version} and state = 'running'`);
  return count === 1;
}

/**
 * Moves `last_active_at` of many sandboxes forward, never back, in one statement.
 * @param agesMs how long ago each was used, ms: PostgreSQL's clock is the only one that counts.
 * @param leastMs what would move it by less is not written.
 */
export async function touchSandboxes(
  sql: Queryable,
  agesMs: ReadonlyMap<string, number>,
  leastMs = 0,
): Promise<void> {
  if (agesMs.size === 0) return;
  const [ids, ages] = [[...agesMs.keys()], [...agesMs.values()]];
  await named("touch_sandboxes", () =>
    sql`
    update sandboxes set last_active_at = seen.at
    from (
      select id, clock_timestamp() - greatest(age, 0) * interval '1 millisecond' as at
      from unnest(${ids}::text[], ${ages}::float8[]) as ages (id, age)) as seen
    where sandboxes.id = seen.id
      and sandboxes.last_active_at < seen.at - ${leastMs}::float8 * interval '1 millisecond'`);
}

/** PostgreSQL's clock, which all deadlines and grace periods are measured by. */
export async function databaseTime(sql: Queryable): Promise<Date> {
  const [row] = await named("database_time", () => sql<{ time: Date }[]>`select clock_timestamp() as time`);
  return row!.time;
}
