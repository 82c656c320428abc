import { z } from "zod";
import { apiTarget, openApi } from "../client/api.ts";
import { webhookSchema, type WebhookView } from "../client/webhook_view.ts";
import { formatAge } from "../terminal/format.ts";
import { type Paint, paintFor } from "../terminal/paint.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor webhook ls` */
export const webhookList = defineAction({
  name: "ls",
  description: "List webhooks with how they stand, newest first",
  async run({ args }) {
    using api = openApi(await apiTarget());
    const answer = await (await api.rest("/v1/webhooks")).json();
    const { webhooks } = z.object({ webhooks: z.array(webhookSchema) }).parse(answer);
    if (args.json) return printJson({ webhooks });
    if (webhooks.length === 0) return console.log("No webhooks. Make one: ./torpor webhook create URL");
    const paint = paintFor(Deno.stdout);
    const header = ["ID", "STATE", "PENDING", "DELIVERED", "EVENTS", "URL", ""];
    console.log(formatTable([header, ...webhooks.map((webhook) => row(webhook, paint))]));
  },
});

function row(webhook: WebhookView, paint: Paint): string[] {
  const { state, disabled_reason, failing_since, last_delivered_at } = webhook;
  const why = disabled_reason
    ? ` (${disabled_reason})`
    : failing_since
    ? ` (${formatAge(new Date(failing_since))})`
    : "";
  return [
    webhook.webhook_id,
    paint(state === "working" ? "green" : state === "disabled" ? "red" : "yellow", state) + why,
    String(webhook.pending),
    last_delivered_at ? `${formatAge(new Date(last_delivered_at))} ago` : "never",
    webhook.events.join(","),
    webhook.url,
    webhook.description,
  ];
}
