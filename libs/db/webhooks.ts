import { TorporError } from "@torpor/errors";
import { type Database, named, type Queryable } from "./database.ts";

/** Webhooks that a team may have: each event is written once for each. */
export const MAX_WEBHOOKS_OF_TEAM = 16;

/** Why a webhook is not told of anything: its owner's wish, failures for too long, or a receiver that answered 410. */
export type DisabledReason = "by_owner" | "failing" | "gone";

/** A receiver of events. */
export interface WebhookRow {
  id: string;
  teamId: string;
  url: string;
  description: string;
  /** Types of events; `*`: all. */
  events: string[];
  /** Encrypted; libs/webhooks knows how. */
  secret: Uint8Array;
  /** The one before the last rotation, valid until … */
  previousSecret: Uint8Array | null;
  previousSecretExpiresAt: Date | null;
  /** Since when no attempt has succeeded; null: the last one did. */
  failingSince: Date | null;
  lastDeliveredAt: Date | null;
  disabledAt: Date | null;
  disabledReason: DisabledReason | "";
  createdAt: Date;
}

/** A webhook and what waits to be sent to it. */
export interface CountedWebhook extends WebhookRow {
  pending: number;
}

/**
 * Writes a new webhook.
 * @throws `team_not_found`; `quota_exceeded` when the team has {@linkcode MAX_WEBHOOKS_OF_TEAM}.
 */
export async function insertWebhook(
  database: Database,
  webhook: Pick<WebhookRow, "id" | "teamId" | "url" | "description" | "events" | "secret">,
): Promise<WebhookRow> {
  const { id, teamId, url, description, events, secret } = webhook;
  return await database.transaction("insert_webhook", async (sql) => {
    // Others that make webhooks of the team wait for this; those that insert sandboxes do not.
    const teams = await sql`select from teams where id = ${teamId} and deleted_at is null for no key update`;
    if (teams.length === 0) throw new TorporError("team_not_found", `no team ${teamId}`);
    const [{ count } = { count: 0 }] = await sql<{ count: number }[]>`
      select count(*)::int as count from webhooks where team_id = ${teamId} and deleted_at is null`;
    if (count >= MAX_WEBHOOKS_OF_TEAM) {
      throw new TorporError("quota_exceeded", `a team has at most ${MAX_WEBHOOKS_OF_TEAM} webhooks`, {
        hint: "delete one that is not needed any more",
        details: { limit: MAX_WEBHOOKS_OF_TEAM, used: count },
      });
    }
    const rows = await sql<WebhookRow[]>`
      insert into webhooks (id, team_id, url, description, events, secret)
      values (${id}, ${teamId}, ${url}, ${description}, ${events}, ${secret}) returning *`;
    return rows[0]!;
  });
}

/** A team's webhooks, newest first. */
export async function listWebhooks(sql: Queryable, teamId: string): Promise<CountedWebhook[]> {
  return await named("list_webhooks", async () => [
    ...await sql<CountedWebhook[]>`
    select webhooks.*, (select count(*)::int from webhook_deliveries
      where webhook_id = webhooks.id and state = 'pending') as pending
    from webhooks where team_id = ${teamId} and deleted_at is null order by created_at desc, id desc`,
  ]);
}

/** One webhook of a team. */
export async function getWebhook(sql: Queryable, teamId: string, id: string): Promise<CountedWebhook | undefined> {
  const rows = await named("get_webhook", () =>
    sql<CountedWebhook[]>`
    select webhooks.*, (select count(*)::int from webhook_deliveries
      where webhook_id = webhooks.id and state = 'pending') as pending
    from webhooks where id = ${id} and team_id = ${teamId} and deleted_at is null`);
  return rows[0];
}

/** What its owner can change of a webhook; absent: stays. */
export interface WebhookChanges {
  url?: string;
  description?: string;
  events?: string[];
  /** true also forgets for how long it has failed, and what waits is sent. */
  enabled?: boolean;
}

/** Changes a webhook. @returns undefined when the team has no such one. */
export async function updateWebhook(
  sql: Queryable,
  teamId: string,
  id: string,
  { url, description, events, enabled }: WebhookChanges,
): Promise<WebhookRow | undefined> {
  const state = enabled === undefined
    ? sql``
    : enabled
    ? sql`, disabled_at = null, disabled_reason = '', failing_since = null`
    : sql`, disabled_at = coalesce(disabled_at, clock_timestamp()), disabled_reason = 'by_owner'`;
  const rows = await named("update_webhook", () =>
    sql<WebhookRow[]>`
    update webhooks set url = coalesce(${url ?? null}, url), description = coalesce(${
      description ?? null
    }, description),
      events = coalesce(${events ?? null}::text[], events) ${state}
    where id = ${id} and team_id = ${teamId} and deleted_at is null returning *`);
  return rows[0];
}

/**
 * Gives a webhook a new secret; the one that it had stays valid beside it.
 * @param overlapSec how long.
 * @returns undefined when the team has no such one.
 */
export async function rotateWebhookSecret(
  sql: Queryable,
  teamId: string,
  id: string,
  secret: Uint8Array,
  overlapSec: number,
): Promise<WebhookRow | undefined> {
  const overlaps = overlapSec > 0;
  const rows = await named("rotate_webhook_secret", () =>
    sql<WebhookRow[]>`
    update webhooks set secret = ${secret}, previous_secret = case when ${overlaps} then secret end,
      previous_secret_expires_at = case when ${overlaps} then
        clock_timestamp() + ${overlapSec}::float8 * interval '1 second' end
    where id = ${id} and team_id = ${teamId} and deleted_at is null returning *`);
  return rows[0];
}

/** Ends a webhook: nothing is written for it or sent to it any more. @returns false when the team has no such one. */
export async function deleteWebhook(sql: Queryable, teamId: string, id: string): Promise<boolean> {
  const rows = await named("delete_webhook", () =>
    sql`
    update webhooks set deleted_at = clock_timestamp()
    where id = ${id} and team_id = ${teamId} and deleted_at is null returning id`);
  return rows.length > 0;
}

/** How a team's webhooks stand, or those of all teams. */
export interface WebhookCounts {
  webhooks: number;
  /** Enabled ones whose last attempt failed. */
  failing: number;
  disabled: number;
  /** Deliveries that wait for an attempt. */
  pending: number;
}

/** Counts webhooks and what waits for them. @param teamId absent: of all teams. */
export async function countWebhooks(sql: Queryable, teamId?: string): Promise<WebhookCounts> {
  const ofTeam = teamId === undefined ? sql`` : sql`and team_id = ${teamId}`;
  const rows = await named("count_webhooks", () =>
    sql<WebhookCounts[]>`
    select count(*)::int as webhooks,
      count(*) filter (where failing_since is not null and disabled_at is null)::int as failing,
      count(*) filter (where disabled_at is not null)::int as disabled,
      coalesce(sum((select count(*) from webhook_deliveries
        where webhook_id = webhooks.id and state = 'pending')), 0)::int as pending
    from webhooks where deleted_at is null ${ofTeam}`);
  return rows[0]!;
}
