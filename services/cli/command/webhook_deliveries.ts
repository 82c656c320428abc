import { z } from "zod";
import { apiTarget, openApi } from "../client/api.ts";
import { deliverySchema, type DeliveryView, webhookPath } from "../client/webhook_view.ts";
import { formatAge, formatMs } from "../terminal/format.ts";
import { type Paint, paintFor } from "../terminal/paint.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction, integerOption } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor webhook deliveries` */
export const webhookDeliveries = defineAction({
  name: "deliveries",
  description: "Show what became of the newest events for a webhook",
  args: {
    id: { type: "positional", description: "Id of the webhook", required: true },
    state: { type: "string", description: "pending, delivered or failed (default: all)", valueHint: "state" },
    limit: { type: "string", description: "How many (default: 30)", valueHint: "number" },
  },
  async run({ args }) {
    const query = new URLSearchParams({ limit: String(integerOption(args.limit, "--limit", 1, 1000) ?? 30) });
    if (args.state) query.set("state", args.state);
    using api = openApi(await apiTarget());
    const answer = await (await api.rest(`${webhookPath(args.id)}/deliveries?${query}`)).json();
    const { deliveries } = z.object({ deliveries: z.array(deliverySchema) }).parse(answer);
    if (args.json) return printJson({ deliveries });
    if (deliveries.length === 0) return console.log("No deliveries.");
    const paint = paintFor(Deno.stdout);
    const header = ["EVENT", "TYPE", "AGE", "STATE", "ATTEMPTS", "ANSWER", "TOOK", "NEXT"];
    console.log(formatTable([header, ...deliveries.map((delivery) => row(delivery, paint))]));
  },
});

function row(delivery: DeliveryView, paint: Paint): string[] {
  const { state, error, response_status: status, took_ms: tookMs, next_attempt_at: next } = delivery;
  return [
    delivery.event_id,
    delivery.type,
    formatAge(new Date(delivery.occurred_at)),
    paint(state === "delivered" ? "green" : state === "failed" ? "red" : "yellow", state),
    String(delivery.attempts),
    [status, error].filter(Boolean).join(" "),
    tookMs === null ? "" : formatMs(tookMs),
    next ? `in ${formatAge(new Date(), new Date(next))}` : "",
  ];
}
