/**
 * A deliverer in a process of its own, for tests that kill it: sends what the outbox of `DATABASE_URL` holds until its
 * standard input ends.
 */
import { openDatabase } from "@torpor/db";
import { WebhookDeliverer } from "../deliverer.ts";

await using database = openDatabase(Deno.env.get("DATABASE_URL")!);
await using deliverer = new WebhookDeliverer({
  database,
  token: Deno.env.get("TORPOR_INTERNAL_TOKEN")!,
  allowPrivate: true,
  retentionMs: 3_600_000,
  disableAfterMs: 3_600_000,
  pollMs: 20,
});
deliverer.start();
for await (const _ of Deno.stdin.readable);
