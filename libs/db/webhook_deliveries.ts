import { readCursor, writeCursor } from "./cursor.ts";
import { named, type Queryable } from "./database.ts";
import type { WebhookRow } from "./webhooks.ts";

/** What an event is about, and which of its changes it was. */
export const EVENT_ID_PATTERN = /^evt_[a-z0-9_]{1,64}$/;

/** How a delivery stands: to be sent (again), received, or given up. */
export const DELIVERY_STATES = ["pending", "delivered", "failed"] as const;

/** One of {@linkcode DELIVERY_STATES}. */
export type DeliveryState = typeof DELIVERY_STATES[number];

/** One event for one webhook, and what became of it. */
export interface DeliveryRow {
  webhookId: string;
  /** The same for all webhooks; sent as `webhook-id`. */
  eventId: string;
  type: string;
  data: unknown;
  occurredAt: Date;
  state: DeliveryState;
  /** How often it was sent, or tried to. */
  attempts: number;
  /** Null when it has ended. While an attempt is under way: when others may try. */
  nextAttemptAt: Date | null;
  lastAttemptAt: Date | null;
  /** Of the last attempt, ms. */
  tookMs: number | null;
  /** The last answer's status; null without one. */
  responseStatus: number | null;
  /** How the last answer's body begins. */
  responseBody: string;
  /** Why the last attempt failed, a code; "" when it did not. */
  error: string;
  endedAt: Date | null;
}

/** A delivery that was taken for an attempt, and where it goes. */
export interface ClaimedDelivery
  extends
    Pick<DeliveryRow, "webhookId" | "eventId" | "type" | "data" | "occurredAt" | "attempts">,
    Pick<WebhookRow, "url" | "secret" | "previousSecret" | "teamId"> {}

/** What a claim may take. */
export interface ClaimLimits {
  /** All together. */
  total: number;
  /** To one webhook at a time. */
  perWebhook: number;
  /** Attempts of this process under way, by webhook. */
  underWay: ReadonlyMap<string, number>;
  /** When others may try if nothing is heard of the attempt, ms. */
  leaseMs: number;
}

/**
 * Takes deliveries that are due for one attempt each. Nobody else takes them until the lease is over, and whoever takes
 * them then counts one attempt more, so that what this one reports too late is not written down.
 *
 * Webhooks are walked by the index, whatever waits for each, and taken in random order: neither many deliveries nor a slow
 * receiver keep others waiting.
 */
export async function claimDeliveries(sql: Queryable, limits: ClaimLimits): Promise<ClaimedDelivery[]> {
  const { total, perWebhook, underWay, leaseMs } = limits;
  const busy = [...underWay.entries()];
  return await named("claim_webhook_deliveries", async () => [
    ...await sql<ClaimedDelivery[]>`
    with recursive waiting (webhook_id) as (
      (select webhook_id from webhook_deliveries where state = 'pending' order by webhook_id limit 1)
      union all
      select (select next.webhook_id from webhook_deliveries next
        where next.state = 'pending' and next.webhook_id > waiting.webhook_id order by next.webhook_id limit 1)
      from waiting where waiting.webhook_id is not null),
    busy (webhook_id, attempts) as (
      select * from unnest(${busy.map(([id]) => id)}::text[], ${busy.map(([, count]) => count)}::int[])),
    due as materialized (
      select found.webhook_id, found.event_id from waiting
      join webhooks on webhooks.id = waiting.webhook_id and deleted_at is null and disabled_at is null
      left join busy on busy.webhook_id = waiting.webhook_id
      cross join lateral (
        select webhook_id, event_id from webhook_deliveries
        where webhook_id = waiting.webhook_id and state = 'pending' and next_attempt_at <= clock_timestamp()
        order by next_attempt_at limit greatest(0, ${perWebhook}::int - coalesce(busy.attempts, 0))
        for update skip locked) as found
      order by random() limit ${total})
    update webhook_deliveries set attempts = webhook_deliveries.attempts + 1, last_attempt_at = clock_timestamp(),
      next_attempt_at = clock_timestamp() + ${leaseMs}::float8 * interval '1 millisecond'
    from due join webhooks on webhooks.id = due.webhook_id
    where webhook_deliveries.webhook_id = due.webhook_id and webhook_deliveries.event_id = due.event_id
    returning webhook_deliveries.webhook_id, webhook_deliveries.event_id, type, data, occurred_at,
      webhook_deliveries.attempts, url, team_id, secret,
      case when previous_secret_expires_at > clock_timestamp() then previous_secret end as previous_secret`,
  ]);
}

/** Which attempt is reported on. */
export type Attempt = Pick<ClaimedDelivery, "webhookId" | "eventId" | "attempts">;

/** What was seen of a receiver. */
export interface Answered {
  tookMs: number;
  responseStatus?: number;
  responseBody?: string;
}

/** Notes that a delivery was received. @returns false when somebody else has taken it since. */
export async function recordDelivered(sql: Queryable, attempt: Attempt, answered: Answered): Promise<boolean> {
  const rows = await named("record_webhook_delivered", () =>
    sql`
    with ended as (
      update webhook_deliveries set state = 'delivered', ended_at = clock_timestamp(), next_attempt_at = null, error = '',
        ${answerColumns(sql, answered)}
      where ${isAttempt(sql, attempt)} returning webhook_id),
    noted as (
      update webhooks set failing_since = null, last_delivered_at = clock_timestamp()
      where id in (select webhook_id from ended)
        and (failing_since is not null or last_delivered_at is null
          or last_delivered_at < clock_timestamp() - interval '10 seconds'))
    select from ended`);
  return rows.length > 0;
}

/** What follows from a failed attempt. */
export interface FailedAttempt extends Answered {
  /** A code. */
  error: string;
  /** When to try again, ms from now; undefined: the delivery is given up. */
  retryInMs: number | undefined;
  /** The webhook is disabled when it has failed for longer than this, ms; 0: at once. */
  disableAfterMs: number;
  disabledReason: "failing" | "gone";
}

/**
 * Notes that an attempt failed.
 * @returns whether the webhook was disabled by it; undefined when somebody else has taken the delivery since.
 */
export async function recordFailed(
  sql: Queryable,
  attempt: Attempt,
  failed: FailedAttempt,
): Promise<{ disabled: boolean } | undefined> {
  const { retryInMs, disableAfterMs } = failed;
  const isDue = sql`(${disableAfterMs}::float8 <= 0
    or failing_since < clock_timestamp() - ${disableAfterMs}::float8 * interval '1 millisecond')`;
  const rows = await named("record_webhook_failed", () =>
    sql<{ disabled: boolean }[]>`
    with noted as (
      update webhook_deliveries set error = ${failed.error}, ${answerColumns(sql, failed)},
        state = ${retryInMs === undefined ? "failed" : "pending"},
        ended_at = case when ${retryInMs === undefined} then clock_timestamp() end,
        next_attempt_at = clock_timestamp() + ${retryInMs ?? null}::float8 * interval '1 millisecond'
      where ${isAttempt(sql, attempt)} returning webhook_id),
    marked as (
      update webhooks set failing_since = coalesce(failing_since, clock_timestamp()),
        disabled_at = case when ${isDue} then clock_timestamp() end,
        disabled_reason = case when ${isDue} then ${failed.disabledReason} else '' end
      where id in (select webhook_id from noted) and disabled_at is null and (failing_since is null or ${isDue})
      returning disabled_at)
    select exists (select from marked where disabled_at is not null) as disabled from noted`);
  return rows[0];
}

/** Gives an attempt back that was broken off: it is due again, and not counted. */
export async function releaseDelivery(sql: Queryable, attempt: Attempt): Promise<void> {
  await named("release_webhook_delivery", () =>
    sql`
    update webhook_deliveries set attempts = attempts - 1, next_attempt_at = clock_timestamp()
    where ${isAttempt(sql, attempt)}`);
}

function answerColumns(sql: Queryable, { tookMs, responseStatus, responseBody }: Answered) {
  return sql`took_ms = ${Math.round(tookMs)}, response_status = ${responseStatus ?? null},
    response_body = ${responseBody ?? ""}`;
}

function isAttempt(sql: Queryable, { webhookId, eventId, attempts }: Attempt) {
  return sql`webhook_id = ${webhookId} and event_id = ${eventId} and attempts = ${attempts} and state = 'pending'`;
}

/** Writes an event that is for one webhook alone, whatever it is told of. */
export async function insertDelivery(
  sql: Queryable,
  delivery: Pick<DeliveryRow, "webhookId" | "eventId" | "type"> & { data: Record<string, string> },
): Promise<DeliveryRow> {
  const { webhookId, eventId, type, data } = delivery;
  const rows = await named("insert_webhook_delivery", () =>
    sql<DeliveryRow[]>`
    insert into webhook_deliveries (webhook_id, event_id, type, data, occurred_at)
    values (${webhookId}, ${eventId}, ${type}, ${sql.json(data)}, clock_timestamp()) returning *`);
  return rows[0]!;
}

/** Has a delivery sent at once, and begins to count its attempts anew: one that waits, was received, or was given up. */
export async function retryDelivery(
  sql: Queryable,
  webhookId: string,
  eventId: string,
): Promise<DeliveryRow | undefined> {
  const rows = await named("retry_webhook_delivery", () =>
    sql<DeliveryRow[]>`
    update webhook_deliveries set state = 'pending', ended_at = null, next_attempt_at = clock_timestamp(),
      attempts = 0
    where webhook_id = ${webhookId} and event_id = ${eventId} returning *`);
  return rows[0];
}

/** True when `value` has the form of an event's id. */
export function isEventId(value: unknown): value is string {
  return typeof value === "string" && EVENT_ID_PATTERN.test(value);
}

/** What {@linkcode listDeliveries} lists. */
export interface DeliveryFilter {
  state?: DeliveryState;
  eventId?: string;
  limit?: number;
  /** `nextCursor` of the page before. */
  cursor?: string;
}

/** One page of the deliveries of a webhook. */
export interface DeliveryPage {
  deliveries: DeliveryRow[];
  /** "" on the last page. */
  nextCursor: string;
}

/** The deliveries of a webhook, newest event first. @throws `invalid_argument` (field `cursor`). */
export async function listDeliveries(
  sql: Queryable,
  webhookId: string,
  { state, eventId, limit = 100, cursor }: DeliveryFilter,
): Promise<DeliveryPage> {
  const after = cursor ? readCursor(cursor, isEventId) : undefined;
  const rows = await named("list_webhook_deliveries", () =>
    sql<DeliveryRow[]>`
    select * from webhook_deliveries where webhook_id = ${webhookId}
      ${state === undefined ? sql`` : sql`and state = ${state}`}
      ${eventId === undefined ? sql`` : sql`and event_id = ${eventId}`}
      ${after ? sql`and (occurred_at, event_id) < (${after.createdAt}::timestamptz, ${after.id})` : sql``}
    order by occurred_at desc, event_id desc limit ${limit + 1}`);
  const deliveries = rows.slice(0, limit);
  const last = deliveries.at(-1);
  const nextCursor = rows.length > limit && last ? writeCursor({ createdAt: last.occurredAt, id: last.eventId }) : "";
  return { deliveries, nextCursor };
}

/**
 * Forgets deliveries: those that ended longer ago than `retentionMs`, those that have waited for longer for a webhook that
 * is disabled, and those of deleted webhooks, which go after an hour.
 * @param limit deliveries that are deleted at most, of each kind.
 * @returns how many.
 */
export async function deleteOldDeliveries(sql: Queryable, retentionMs: number, limit: number): Promise<number> {
  const old = sql`clock_timestamp() - ${retentionMs}::float8 * interval '1 millisecond'`;
  const rows = await named("delete_old_webhook_deliveries", () =>
    sql<{ count: number }[]>`
    with ended as (
      select ctid from webhook_deliveries where ended_at < ${old} order by ended_at limit ${limit}
      for update skip locked),
    orphaned as (
      select webhook_deliveries.ctid from webhooks join webhook_deliveries on webhook_id = webhooks.id
      where deleted_at is not null limit ${limit} for update of webhook_deliveries skip locked),
    stuck as (
      select webhook_deliveries.ctid from webhooks join webhook_deliveries on webhook_id = webhooks.id
      where deleted_at is null and disabled_at < ${old} and state = 'pending' and occurred_at < ${old} limit ${limit}
      for update of webhook_deliveries skip locked),
    gone as (
      delete from webhook_deliveries where ctid in (
        select ctid from ended union select ctid from orphaned union select ctid from stuck)
      returning 1)
    select count(*)::int as count from gone`);
  await named("delete_old_webhooks", () =>
    sql`
    -- Not at once: transactions that do not see its deletion yet may still write events for it.
    delete from webhooks where deleted_at < clock_timestamp() - interval '1 hour'
      and not exists (select from webhook_deliveries where webhook_id = webhooks.id)`);
  return rows[0]!.count;
}
