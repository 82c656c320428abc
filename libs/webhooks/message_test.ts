import { assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { Webhook } from "standardwebhooks";
import { MAX_ATTEMPTS, retryDelayMs } from "./backoff.ts";
import { messageBody, signedHeaders } from "./message.ts";
import { newWebhookSecret, openSecret, sealSecret } from "./secret.ts";

const MESSAGE = { id: "evt_x_7", type: "sandbox.paused", occurredAt: new Date(1_700_000_000_123), data: { a: "ü" } };

Deno.test("a message is signed with every valid secret, as the specification says", async () => {
  const [current, previous] = [newWebhookSecret(), newWebhookSecret()];
  const body = messageBody(MESSAGE);
  assertEquals(body, '{"type":"sandbox.paused","timestamp":"2023-11-14T22:13:20.123Z","data":{"a":"ü"}}');
  const headers = signedHeaders(MESSAGE, body, [current, previous], new Date());
  for (const secret of [current, previous]) assertEquals(new Webhook(secret).verify(body, headers), JSON.parse(body));
  assertThrows(() => new Webhook(newWebhookSecret()).verify(body, headers));
  assertThrows(() => new Webhook(current).verify(body.replace("7", "8") + " ", headers));

  // The same by hand: HMAC-SHA256 of `id.timestamp.body` with the decoded secret.
  const raw = Uint8Array.fromBase64(current.slice("whsec_".length));
  const key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const content = new TextEncoder().encode(`evt_x_7.${headers["webhook-timestamp"]}.${body}`);
  const signature = new Uint8Array(await crypto.subtle.sign("HMAC", key, content)).toBase64();
  assertEquals(headers["webhook-signature"]!.split(" ")[0], `v1,${signature}`);
});

Deno.test("a sealed secret is opened by the same token only", async () => {
  const secret = newWebhookSecret();
  const sealed = await sealSecret(secret, "token");
  assertNotEquals(sealed, await sealSecret(secret, "token"));
  assertEquals(new TextDecoder("latin1").decode(sealed).includes(secret), false);
  assertEquals(await openSecret(sealed, "token"), secret);
  assertEquals((await assertRejects(() => openSecret(sealed, "other"), TorporError)).code, "config_invalid");
});

Deno.test("pauses grow from seconds to hours, are spread, and respect Retry-After up to a limit", () => {
  const [short, long] = [(n: number) => retryDelayMs(n, 0, () => 0), (n: number) => retryDelayMs(n, 0, () => 1)];
  assertEquals([short(1), long(1), short(3), long(3)], [2_500, 5_000, 40_000, 80_000]);
  assertEquals(long(MAX_ATTEMPTS), 6 * 3_600_000);
  assertEquals(retryDelayMs(1, 60_000), 60_000);
  assertEquals(retryDelayMs(1, 1e12), 6 * 3_600_000);
});
