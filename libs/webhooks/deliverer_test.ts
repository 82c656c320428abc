import { assert, assertEquals } from "@std/assert";
import {
  type Database,
  type DeliveryRow,
  type DeliveryState,
  getWebhook,
  insertDelivery,
  insertWebhook,
  listDeliveries,
  rotateWebhookSecret,
} from "@torpor/db";
import { newId } from "@torpor/ids";
import { openTestDatabase } from "@torpor/testing/postgres";
import { Webhook } from "standardwebhooks";
import { MAX_ATTEMPTS } from "./backoff.ts";
import { type DelivererOptions, WebhookDeliverer } from "./deliverer.ts";
import { newWebhookSecret, sealSecret } from "./secret.ts";
import { Receiver, stall } from "./testing/receiver.ts";

const TOKEN = "an internal token";

const PERMISSIONS = ["--allow-net", "--allow-sys", "--allow-env", "--allow-read", "--allow-write"];

async function addWebhook(database: Database, url: string, token = TOKEN): Promise<{ id: string; secret: string }> {
  const [id, secret] = [newId(), newWebhookSecret()];
  const sealed = await sealSecret(secret, token);
  await insertWebhook(database, { id, teamId: "default", url, description: "", events: ["*"], secret: sealed });
  return { id, secret };
}

let events = 0;

async function addEvent({ sql }: Database, webhookId: string): Promise<string> {
  const eventId = `evt_${++events}`;
  await insertDelivery(sql, { webhookId, eventId, type: "webhook.test", data: { n: String(events) } });
  return eventId;
}

function startDeliverer(database: Database, options: Partial<DelivererOptions> = {}): WebhookDeliverer {
  const times = { retentionMs: 3_600_000, disableAfterMs: 3_600_000, pollMs: 10, retryDelayMs: () => 0 };
  const deliverer = new WebhookDeliverer({ database, token: TOKEN, allowPrivate: true, ...times, ...options });
  deliverer.start();
  return deliverer;
}

/** Waits until a delivery is in a state, which is written after the answer was read. */
async function until(
  database: Database,
  webhookId: string,
  eventId: string,
  state: DeliveryState,
): Promise<DeliveryRow> {
  for (;;) {
    const { deliveries } = await listDeliveries(database.sql, webhookId, {});
    const found = deliveries.find((delivery) => delivery.eventId === eventId);
    if (found?.state === state) return found;
  }
}

Deno.test("what a receiver refuses is sent again with the same id and body, and a new signature", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await using receiver = Receiver.start((_, count) => new Response("busy", { status: count < 3 ? 503 : 200 }));
  const { id, secret } = await addWebhook(database, receiver.url);
  await using _deliverer = startDeliverer(database);
  const eventId = await addEvent(database, id);
  const row = await until(database, id, eventId, "delivered");
  assertEquals([row.attempts, row.responseStatus, row.error], [3, 200, ""]);
  assertEquals(receiver.received.map((one) => one.id), [eventId, eventId, eventId]);
  assertEquals(new Set(receiver.received.map(({ body }) => body)).size, 1);
  for (const { body, headers } of receiver.received) new Webhook(secret).verify(body, Object.fromEntries(headers));
  const webhook = (await getWebhook(database.sql, "default", id))!;
  assertEquals([webhook.failingSince, webhook.lastDeliveredAt instanceof Date, webhook.pending], [null, true, 0]);
});

Deno.test("after a rotation both secrets sign, and only the new one when the old has ended", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await using receiver = Receiver.start();
  const { id, secret } = await addWebhook(database, receiver.url);
  const next = newWebhookSecret();
  await rotateWebhookSecret(database.sql, "default", id, await sealSecret(next, TOKEN), 3600);
  await using _deliverer = startDeliverer(database);
  await until(database, id, await addEvent(database, id), "delivered");
  await database.sql`update webhooks set previous_secret_expires_at = now() - interval '1 second'`;
  await until(database, id, await addEvent(database, id), "delivered");
  const valid = (n: number, one: string) => {
    const { body, headers } = receiver.received[n]!;
    try {
      return new Webhook(one).verify(body, Object.fromEntries(headers)) !== undefined;
    } catch {
      return false;
    }
  };
  assertEquals([valid(0, secret), valid(0, next), valid(1, secret), valid(1, next)], [true, true, false, true]);
});

Deno.test("a delivery is given up after the last attempt; 410 ends it at once and disables the webhook", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await using receiver = Receiver.start(({ path }) => new Response(null, { status: path === "/gone" ? 410 : 302 }));
  const failing = await addWebhook(database, receiver.url);
  const gone = await addWebhook(database, receiver.url.replace("/hook", "/gone"));
  await using _deliverer = startDeliverer(database);
  const given = await until(database, failing.id, await addEvent(database, failing.id), "failed");
  assertEquals([given.attempts, given.error, given.responseStatus], [MAX_ATTEMPTS, "redirected", 302]);
  const ended = await until(database, gone.id, await addEvent(database, gone.id), "failed");
  assertEquals([ended.attempts, ended.error], [1, "gone"]);
  assertEquals((await getWebhook(database.sql, "default", gone.id))!.disabledReason, "gone");
  assertEquals((await getWebhook(database.sql, "default", failing.id))!.disabledReason, "");
});

Deno.test("a secret that cannot be read, and an address that is not public, are failures that say so", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await using receiver = Receiver.start();
  const sealed = await addWebhook(database, receiver.url, "another token");
  const inside = await addWebhook(database, receiver.url);
  await using _deliverer = startDeliverer(database, { allowPrivate: false });
  const first = await until(database, sealed.id, await addEvent(database, sealed.id), "failed");
  const second = await until(database, inside.id, await addEvent(database, inside.id), "failed");
  assertEquals([first.error, second.error, receiver.received], ["secret_unreadable", "address_not_public", []]);
});

Deno.test("a receiver that stalls keeps no other waiting", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await using slow = Receiver.start(stall);
  await using quick = Receiver.start();
  const [stalled, working] = [await addWebhook(database, slow.url), await addWebhook(database, quick.url)];
  for (let i = 0; i < 50; i++) await addEvent(database, stalled.id);
  await using _deliverer = startDeliverer(database, { timeoutMs: 60_000 });
  await slow.arrived(4);
  for (let i = 0; i < 20; i++) await addEvent(database, working.id);
  await quick.arrived(20);
  assertEquals(slow.received.length, 4);
});

Deno.test("many events and two deliverers: each is sent, none twice", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await using receiver = Receiver.start();
  const { id } = await addWebhook(database, receiver.url);
  for (let i = 0; i < 100; i++) await addEvent(database, id);
  await using _first = startDeliverer(database);
  await using _second = startDeliverer(database);
  await receiver.arrived(100);
  assertEquals(new Set(receiver.received.map((one) => one.id)).size, 100);
});

Deno.test("a deliverer that stops gives back what is under way, uncounted", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await using receiver = Receiver.start((one, count, signal) => count > 1 ? new Response() : stall(one, count, signal));
  const { id } = await addWebhook(database, receiver.url);
  const eventId = await addEvent(database, id);
  {
    await using _deliverer = startDeliverer(database);
    await receiver.arrived(1);
  }
  await using _deliverer = startDeliverer(database);
  assertEquals((await until(database, id, eventId, "delivered")).attempts, 1);
});

Deno.test("an event whose deliverer is killed after it was sent is sent again with the same id", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await using receiver = Receiver.start((one, count, signal) => count > 1 ? new Response() : stall(one, count, signal));
  const { id } = await addWebhook(database, receiver.url);
  const eventId = await addEvent(database, id);
  const child = new Deno.Command(Deno.execPath(), {
    // What a deployment gives the reconciler, see services/cli/deployment/services.ts.
    args: [
      "run",
      "--no-check",
      "--no-prompt",
      ...PERMISSIONS,
      new URL("./testing/deliver_process.ts", import.meta.url).pathname,
    ],
    env: { DATABASE_URL: test.url, TORPOR_INTERNAL_TOKEN: TOKEN },
    stdin: "piped",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  await receiver.arrived(1);
  child.kill("SIGKILL");
  await child.stdin.abort();
  await child.status;
  const { deliveries: [left] } = await listDeliveries(database.sql, id, {});
  assertEquals([left!.state, left!.attempts], ["pending", 1]);
  assert(left!.nextAttemptAt!.getTime() > Date.now(), "its lease is not over");
  // The lease is over.
  await database.sql`update webhook_deliveries set next_attempt_at = now()`;
  await using _deliverer = startDeliverer(database);
  assertEquals((await until(database, id, eventId, "delivered")).attempts, 2);
  assertEquals(
    receiver.received.map((one) => [one.id, one.body]),
    Array(2).fill([eventId, receiver.received[0]!.body]),
  );
});
