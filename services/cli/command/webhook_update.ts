import { apiTarget, openApi } from "../client/api.ts";
import { sendJson, webhookPath, webhookSchema } from "../client/webhook_view.ts";
import { defineAction } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";
import { EVENTS_OPTION, eventsOption } from "./webhook_create.ts";

/** `torpor webhook update` */
export const webhookUpdate = defineAction({
  name: "update",
  description: "Change a webhook, disable it, or enable it again: what waits is then sent",
  args: {
    id: { type: "positional", description: "Id of the webhook", required: true },
    url: { type: "string", description: "Where events are posted to", valueHint: "url" },
    events: EVENTS_OPTION,
    description: { type: "string", description: "For people", valueHint: "text" },
    enable: { type: "boolean", description: "Begin anew" },
    disable: { type: "boolean", description: "Write and send nothing" },
  },
  async run({ args }) {
    if (args.enable && args.disable) throw new UsageError("--enable and --disable exclude each other");
    const enabled = args.enable ? true : args.disable ? false : undefined;
    const body = { url: args.url, events: eventsOption(args.events), description: args.description, enabled };
    if (Object.values(body).every((value) => value === undefined)) throw new UsageError("nothing to change is given");
    using api = openApi(await apiTarget());
    const webhook = await sendJson(api, "PATCH", webhookPath(args.id), body, webhookSchema);
    if (args.json) return printJson(webhook);
    console.log(`${webhook.webhook_id} is ${webhook.state}, told of ${webhook.events.join(", ")}: ${webhook.url}`);
  },
});
