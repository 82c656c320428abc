import { assert, assertEquals, assertMatch } from "@std/assert";
import { WebhookService } from "@torpor/proto/webhook";
import { WebhookDeliverer } from "@torpor/webhooks";
import { Webhook } from "standardwebhooks";
import { Receiver } from "../../../libs/webhooks/testing/receiver.ts";
import { type Json, TestApi } from "./harness.ts";

function startDeliverer(api: TestApi): WebhookDeliverer {
  const times = { retentionMs: 3_600_000, disableAfterMs: 3_600_000, pollMs: 10 };
  const deliverer = new WebhookDeliverer({ database: api.database, token: api.token, allowPrivate: true, ...times });
  deliverer.start();
  return deliverer;
}

async function ended(api: TestApi, webhookId: string, eventId: string): Promise<Json> {
  for (;;) {
    const { json } = await api.call("GET", `/v1/webhooks/${webhookId}/deliveries?event_id=${eventId}`);
    const [delivery] = json.deliveries;
    if (delivery.state !== "pending") return delivery;
  }
}

Deno.test("the life of a sandbox arrives at a receiver, signed with the secret that was shown once", async () => {
  await using api = await TestApi.start({ allowPrivateWebhooks: true });
  await using receiver = Receiver.start();
  const { status, json: webhook } = await api.call("POST", "/v1/webhooks", {
    json: { url: receiver.url, description: "for tests" },
  });
  assertEquals(status, 201);
  assertMatch(webhook.secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
  const id = await api.createSandbox({ memory_mb: 128, metadata: { job: "7" } });
  for (const verb of ["pause", "resume"]) {
    assertEquals((await api.call("POST", `/v1/sandboxes/${id}/${verb}`)).status, 200);
  }
  assertEquals((await api.call("DELETE", `/v1/sandboxes/${id}`)).status, 204);
  await using _deliverer = startDeliverer(api);
  const received = await receiver.arrived(5);
  const messages = received.map(({ body, headers }) =>
    new Webhook(webhook.secret).verify(body, Object.fromEntries(headers)) as Json
  ).sort((a, b) => a.data.version - b.data.version);
  assertEquals(messages.map(({ type }) => type), [
    ...["sandbox.created", "sandbox.running", "sandbox.paused", "sandbox.resumed", "sandbox.deleted"],
  ]);
  for (const { data } of messages) assertEquals([data.sandbox_id, data.metadata], [id, { job: "7" }]);
  const { json: shown } = await api.call("GET", `/v1/webhooks/${webhook.webhook_id}`);
  assertEquals([shown.secret, shown.state, shown.events], [undefined, "working", ["*"]]);
});

Deno.test("webhooks are made, tested, disabled, rotated, retried and deleted", async () => {
  await using api = await TestApi.start({ allowPrivateWebhooks: true });
  await using receiver = Receiver.start((_, count) => new Response("no", { status: count === 1 ? 410 : 200 }));
  const json = { url: receiver.url, events: ["sandbox.failed"] };
  const { json: webhook } = await api.call("POST", "/v1/webhooks", { json });
  const path = `/v1/webhooks/${webhook.webhook_id}`;
  await using _deliverer = startDeliverer(api);
  const test = await api.call("POST", `${path}/test`);
  assertEquals([test.status, test.json.type, test.json.state], [202, "webhook.test", "pending"]);
  const failed = await ended(api, webhook.webhook_id, test.json.event_id);
  assertEquals([failed.state, failed.error, failed.response_status, failed.response_body], [
    "failed",
    "gone",
    410,
    "no",
  ]);
  const { json: listed } = await api.call("GET", "/v1/webhooks");
  assertEquals([listed.webhooks[0].state, listed.webhooks[0].disabled_reason], ["disabled", "gone"]);
  const retry = `${path}/deliveries/${test.json.event_id}/retry`;
  assertEquals((await api.call("POST", retry)).json.code, "conflict");
  assertEquals((await api.call("PATCH", path, { json: { enabled: true } })).json.state, "working");
  assertEquals((await api.call("POST", retry)).status, 202);
  assertEquals((await ended(api, webhook.webhook_id, test.json.event_id)).state, "delivered");

  const rotated = await api.call("POST", `${path}/rotate`, { json: { overlap_sec: 60 } });
  assert(rotated.json.secret !== webhook.secret && rotated.json.previous_secret_expires_at !== null);
  const again = await api.call("POST", `${path}/test`);
  await ended(api, webhook.webhook_id, again.json.event_id);
  const { body, headers } = receiver.received.at(-1)!;
  for (const secret of [webhook.secret, rotated.json.secret]) {
    new Webhook(secret).verify(body, Object.fromEntries(headers));
  }
  const client = api.client(WebhookService);
  const { deliveries } = await client.listWebhookDeliveries({ webhookId: webhook.webhook_id, state: "delivered" });
  assertEquals(
    deliveries.map(({ type, data }) => [type, data]),
    Array(2).fill(["webhook.test", { webhook_id: webhook.webhook_id }]),
  );
  client[Symbol.dispose]();
  assertEquals((await api.call("DELETE", path)).status, 204);
  assertEquals((await api.call("GET", path)).json.code, "webhook_not_found");
});

Deno.test("receivers inside are refused unless the deployment allows them, and so is what makes no sense", async () => {
  await using api = await TestApi.start();
  const create = async (json: unknown) => {
    const { status, json: { code, field } } = await api.call("POST", "/v1/webhooks", { json });
    return [status, code, field];
  };
  for (const url of ["https://127.0.0.1/", "http://example.com/", "https://169.254.169.254/", "nothing"]) {
    assertEquals(await create({ url }), [422, "invalid_argument", "url"], url);
  }
  assertEquals(await create({ url: "https://example.com/", events: ["sandbox.eaten"] }), [
    ...[422, "invalid_argument", "events.0"],
  ]);
  const { json } = await api.call("POST", "/v1/webhooks", { json: { url: "https://example.com/" } });
  const inside = { json: { url: "https://10.0.0.1/" } };
  assertEquals((await api.call("PATCH", `/v1/webhooks/${json.webhook_id}`, inside)).json.field, "url");
  const odd = await api.call("GET", `/v1/webhooks/${json.webhook_id}/deliveries?cursor=x`);
  assertEquals([odd.status, odd.json.field], [422, "cursor"]);
  const none = await api.call("POST", `/v1/webhooks/${json.webhook_id}/deliveries/evt_none/retry`);
  assertEquals([none.status, none.json.code], [404, "delivery_not_found"]);
});
