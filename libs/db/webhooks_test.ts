import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { openTestDatabase } from "@torpor/testing/postgres";
import {
  claimDeliveries,
  type ClaimLimits,
  compareAndSetState,
  type Database,
  deleteOldDeliveries,
  deleteWebhook,
  getWebhook,
  insertDelivery,
  insertKeptSnapshot,
  insertSandbox,
  insertWebhook,
  listDeliveries,
  MAX_WEBHOOKS_OF_TEAM,
  recordDelivered,
  recordFailed,
  releaseDelivery,
  retryDelivery,
  type SandboxChanges,
  type SandboxRow,
  type SandboxState,
  setKeptSnapshotState,
  updateWebhook,
  type WebhookRow,
} from "./mod.ts";

const HOST = "h".repeat(20);
const SPEC = {
  ...{ template: "base", vcpus: 2, memoryMb: 256, diskSizeMb: 1000, timeoutSec: 0, autoDeleteAfterSec: 0, ttlSec: 0 },
  ...{ onTtl: "pause" as const, env: { SECRET: "1" }, metadata: { job: "7" }, sourceSnapshotId: null, reclaim: null },
} as const;
const SNAPSHOT = {
  ...{ id: "s".repeat(20), generation: 1, sizeBytes: 1n, memoryBytes: 1n, diskBytes: 0n, pagesResident: 1n },
  ...{ pagesDirty: 1n, pagesData: 1n, createdAt: new Date() },
};

async function addHost({ sql }: Database): Promise<void> {
  await sql`insert into hosts (id, name, address, vcpus, memory_mb, disk_mb) values (${HOST}, 'h', 'a', 1, 1, 1)`;
}

async function addWebhook(database: Database, events = ["*"], teamId = "default"): Promise<WebhookRow> {
  const row = { id: newId(), teamId, url: "https://example.com/", description: "", events, secret: new Uint8Array(3) };
  return await insertWebhook(database, row);
}

async function create(database: Database): Promise<SandboxRow> {
  return await database.transaction("create", async (sql) => {
    const [id, operationId] = [newId(), newId()];
    const row = await insertSandbox(sql, { id, teamId: "default", operationId, deadlineMs: 1000, spec: SPEC });
    await sql`insert into operations (id, sandbox_id, kind, version, deadline, state, finished_at)
      values (${operationId}, ${id}, 'create', 1, now(), 'succeeded', now())`;
    return row;
  });
}

async function go(database: Database, row: SandboxRow, ...states: SandboxState[]): Promise<SandboxRow> {
  let current = row;
  for (const to of states) {
    const held = ["starting", "pausing", "resuming", "snapshotting", "deleting"].includes(to);
    const changes: SandboxChanges = { hostId: HOST, snapshot: SNAPSHOT, ...(held ? { deadlineMs: 1000 } : {}) };
    if (to === "failed") changes.reason = "vm_gone";
    current = (await compareAndSetState(database.sql, current, to, changes))!;
  }
  return current;
}

async function types(database: Database, webhookId: string): Promise<string[]> {
  const { deliveries } = await listDeliveries(database.sql, webhookId, {});
  return deliveries.map(({ type }) => type).reverse();
}

const LIMITS: ClaimLimits = { total: 100, perWebhook: 100, underWay: new Map(), leaseMs: 60_000 };

Deno.test("each change that an owner did not know before is written once, in the transaction of the change", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await addHost(database);
  const silent = await create(database);
  const webhook = await addWebhook(database);
  const paused = await addWebhook(database, ["sandbox.paused", "sandbox.lost"]);
  const row = await create(database);
  const path = ["starting", "running", "snapshotting", "running", "pausing", "running", "pausing", "paused"] as const;
  const asleep = await go(database, row, ...path, "resuming", "paused", "snapshotting", "paused", "resuming");
  const lost = await go(database, asleep, "running", "lost", "running", "lost", "paused");
  await go(database, lost, "failed", "deleting", "deleted");
  await assertRejects(() =>
    database.transaction("rolled_back", async (sql) => {
      await compareAndSetState(sql, silent, "failed", { reason: "x" });
      throw new Error("no");
    })
  );
  assertEquals(await types(database, webhook.id), [
    ...["sandbox.created", "sandbox.running", "sandbox.paused", "sandbox.resumed", "sandbox.lost", "sandbox.running"],
    ...["sandbox.lost", "sandbox.paused", "sandbox.failed", "sandbox.deleted"],
  ]);
  assertEquals(await types(database, paused.id), ["sandbox.paused", "sandbox.lost", "sandbox.lost", "sandbox.paused"]);
  const { deliveries } = await listDeliveries(database.sql, webhook.id, {});
  const failed = deliveries.find(({ type }) => type === "sandbox.failed")!;
  assertEquals(failed.data, {
    ...{ sandbox_id: row.id, state: "failed", previous_state: "paused", version: 20, reason: "vm_gone" },
    ...{ operation_id: row.operationId, host_id: HOST, template: "base", source_snapshot_id: null },
    metadata: { job: "7" },
  });
  assertEquals(failed.eventId, `evt_${row.id}_20`);
});

Deno.test("snapshots and forks are told of, a fork's own checkpoint is not", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  const { sql } = database;
  await addHost(database);
  const row = await create(database);
  const webhook = await addWebhook(database, ["snapshot.ready", "snapshot.failed", "snapshot.deleted", "fork.failed"]);
  const sizes = { ...SNAPSHOT, stoppedUs: 8n };
  for (
    const [kind, path] of [["named", ["ready", "deleted"]], ["checkpoint", ["failed"]], ["fork", ["ready"]]] as const
  ) {
    const made = { id: newId(), teamId: "default", name: `s-${kind}`, kind, platform: false, hostId: HOST };
    await insertKeptSnapshot(sql, { ...made, ...SPEC, sandboxId: row.id });
    let from: "creating" | "ready" | "failed" | "deleted" = "creating";
    for (const to of path) {
      await setKeptSnapshotState(sql, made.id, [from], to, to === "ready" ? { sizes } : { reason: "no_space" });
      from = to;
    }
    if (kind !== "fork") continue;
    await sql`insert into forks (operation_id, team_id, sandbox_id, snapshot_id, child_ids, deadline)
      values (${row.operationId}, 'default', ${row.id}, ${made.id}, '{a,b}', now())`;
    await sql`update forks set state = 'failed', error_code = 'no_capacity', finished_at = now()`;
  }
  assertEquals(await types(database, webhook.id), [
    "snapshot.ready",
    "snapshot.deleted",
    "snapshot.failed",
    "fork.failed",
  ]);
  const { deliveries: [fork] } = await listDeliveries(sql, webhook.id, { limit: 1 });
  assertEquals(fork!.data, {
    ...{ operation_id: row.operationId, sandbox_id: row.id, child_ids: ["a", "b"], state: "failed" },
    reason: "no_capacity",
  });
});

Deno.test("nothing is written for webhooks that are disabled or deleted, and nothing is sent to them", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  const { sql } = database;
  const [disabled, deleted] = [await addWebhook(database), await addWebhook(database)];
  await create(database);
  await updateWebhook(sql, "default", disabled.id, { enabled: false });
  assertEquals(await deleteWebhook(sql, "other", deleted.id), false);
  assertEquals(await deleteWebhook(sql, "default", deleted.id), true);
  assertEquals(await getWebhook(sql, "default", deleted.id), undefined);
  await create(database);
  assertEquals((await getWebhook(sql, "default", disabled.id))!.pending, 1);
  assertEquals(await claimDeliveries(sql, LIMITS), []);
  await updateWebhook(sql, "default", disabled.id, { enabled: true });
  assertEquals((await claimDeliveries(sql, LIMITS)).map(({ webhookId }) => webhookId), [disabled.id]);
  assertEquals(await deleteOldDeliveries(sql, 3_600_000, 10), 1);
  assertEquals((await sql`select id from webhooks`).length, 2);
  await sql`update webhooks set deleted_at = now() - interval '2 hours' where deleted_at is not null`;
  await deleteOldDeliveries(sql, 3_600_000, 10);
  assertEquals((await sql`select id from webhooks`).length, 1);
});

Deno.test("a delivery is taken by one process at a time, which alone may say what became of it", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  const { sql } = database;
  const webhook = await addWebhook(database);
  for (let i = 0; i < 40; i++) {
    await insertDelivery(sql, { webhookId: webhook.id, eventId: `evt_${i}`, type: "t", data: {} });
  }
  const shares = await Promise.all(Array.from({ length: 8 }, () => claimDeliveries(sql, { ...LIMITS, total: 10 })));
  const taken = shares.flat().map(({ eventId }) => eventId);
  assertEquals(new Set(taken).size, taken.length);
  while (taken.length < 40) {
    const more = await claimDeliveries(sql, LIMITS);
    assert(more.length > 0);
    taken.push(...more.map(({ eventId }) => eventId));
  }
  assertEquals(new Set(taken).size, 40);
  assertEquals(await claimDeliveries(sql, LIMITS), []);

  const first = shares.flat()[0]!;
  await sql`update webhook_deliveries set next_attempt_at = now() where event_id = ${first.eventId}`;
  const [second] = await claimDeliveries(sql, LIMITS);
  assertEquals([second!.eventId, second!.attempts], [first.eventId, 2]);
  assertEquals(await recordDelivered(sql, first, { tookMs: 1 }), false);
  await releaseDelivery(sql, second!);
  const [third] = await claimDeliveries(sql, LIMITS);
  assertEquals([third!.eventId, third!.attempts], [first.eventId, 2]);
  assertEquals(await recordDelivered(sql, third!, { tookMs: 1, responseStatus: 204 }), true);
  await retryDelivery(sql, webhook.id, first.eventId);
  assertEquals((await claimDeliveries(sql, LIMITS)).map(({ attempts }) => attempts), [1]);
});

Deno.test("what waits for one webhook keeps no other waiting", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  const { sql } = database;
  const hooks = [await addWebhook(database), await addWebhook(database), await addWebhook(database)];
  const [crowded, other, busy] = hooks as [WebhookRow, WebhookRow, WebhookRow];
  await sql`insert into webhook_deliveries (webhook_id, event_id, type, data, occurred_at, next_attempt_at)
    select ${crowded.id}, 'evt_' || n, 't', '{}', now(), now() - interval '1 hour' from generate_series(1, 2000) as n`;
  for (const { id } of [other, busy]) {
    await insertDelivery(sql, { webhookId: id, eventId: "evt_x", type: "t", data: {} });
  }
  const underWay = new Map([[busy.id, 2]]);
  const taken = await claimDeliveries(sql, { total: 10, perWebhook: 2, underWay, leaseMs: 1000 });
  const count = ({ id }: WebhookRow) => taken.filter(({ webhookId }) => webhookId === id).length;
  assertEquals([count(crowded), count(other), count(busy)], [2, 1, 0]);
});

Deno.test("a webhook that fails for too long is disabled; one success forgets it", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  const { sql } = database;
  const { id } = await addWebhook(database);
  for (const n of [1, 2, 3]) await insertDelivery(sql, { webhookId: id, eventId: `evt_${n}`, type: "t", data: {} });
  const [first, second, third] = await claimDeliveries(sql, LIMITS);
  const failed = {
    tookMs: 1,
    error: "refused",
    retryInMs: 0,
    disableAfterMs: 3_600_000,
    disabledReason: "failing",
  } as const;
  const age = () => sql`update webhooks set failing_since = now() - interval '2 hours' where failing_since is not null`;
  assertEquals(await recordFailed(sql, first!, failed), { disabled: false });
  await age();
  await recordDelivered(sql, second!, { tookMs: 1 });
  assertEquals((await getWebhook(sql, "default", id))!.failingSince, null);
  assertEquals(await recordFailed(sql, third!, failed), { disabled: false });
  await age();
  const again = await claimDeliveries(sql, LIMITS);
  assertEquals(await recordFailed(sql, again[0]!, { ...failed, retryInMs: undefined }), { disabled: true });
  assertEquals(await recordFailed(sql, again[0]!, failed), undefined);
  const row = (await getWebhook(sql, "default", id))!;
  assertEquals([row.disabledReason, row.disabledAt instanceof Date], ["failing", true]);
  const { deliveries } = await listDeliveries(sql, id, { state: "failed" });
  assertEquals(deliveries.map(({ error, attempts }) => [error, attempts]), [["refused", 2]]);
});

Deno.test("deliveries are listed in pages and forgotten by age", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  const { sql } = database;
  const { id } = await addWebhook(database);
  for (let n = 0; n < 5; n++) await insertDelivery(sql, { webhookId: id, eventId: `evt_${n}`, type: "t", data: {} });
  const first = await listDeliveries(sql, id, { limit: 3 });
  const second = await listDeliveries(sql, id, { limit: 3, cursor: first.nextCursor });
  assertEquals([first.deliveries.length, second.deliveries.length, second.nextCursor], [3, 2, ""]);
  for (const attempt of await claimDeliveries(sql, LIMITS)) await recordDelivered(sql, attempt, { tookMs: 1 });
  await sql`update webhook_deliveries set ended_at = now() - interval '2 hours' where event_id <> 'evt_0'`;
  assertEquals(await deleteOldDeliveries(sql, 3_600_000, 3), 3);
  assertEquals(await deleteOldDeliveries(sql, 3_600_000, 3), 1);
  assertEquals((await listDeliveries(sql, id, {})).deliveries.map(({ eventId }) => eventId), ["evt_0"]);
});

Deno.test("a team has so many webhooks at most, however many are made at once", async () => {
  await using test = await openTestDatabase();
  const made = await Promise.allSettled(
    Array.from({ length: MAX_WEBHOOKS_OF_TEAM + 4 }, () => addWebhook(test.database)),
  );
  const refused = made.filter((one) => one.status === "rejected").map(({ reason }) => (reason as TorporError).code);
  assertEquals(refused, Array.from({ length: 4 }, () => "quota_exceeded"));
  const error = await assertRejects(() => addWebhook(test.database, ["*"], "nobody"), TorporError);
  assertEquals(error.code, "team_not_found");
});
