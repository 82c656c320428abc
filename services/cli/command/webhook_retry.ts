import { apiTarget, openApi } from "../client/api.ts";
import { deliverySchema, webhookPath } from "../client/webhook_view.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor webhook retry` */
export const webhookRetry = defineAction({
  name: "retry",
  description: "Have an event sent again at once",
  args: {
    id: { type: "positional", description: "Id of the webhook", required: true },
    event: { type: "positional", description: "Id of the event, from deliveries", required: true },
  },
  async run({ args }) {
    using api = openApi(await apiTarget());
    const path = `${webhookPath(args.id)}/deliveries/${encodeURIComponent(args.event)}/retry`;
    const delivery = deliverySchema.parse(await (await api.rest(path, { method: "POST" })).json());
    if (args.json) return printJson(delivery);
    console.log(`${delivery.event_id} (${delivery.type}) will be sent at once`);
  },
});
