import { apiTarget, openApi } from "../client/api.ts";
import { sendJson, webhookWithSecretSchema } from "../client/webhook_view.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

/** `--events` of several commands. */
export const EVENTS_OPTION = {
  type: "string",
  description: "Comma-separated types, such as sandbox.paused,snapshot.ready",
  valueHint: "types",
} as const;

/** The types that `--events` names; undefined without the option. */
export function eventsOption(text: string | undefined): string[] | undefined {
  return text?.split(",").map((type) => type.trim());
}

/** `torpor webhook create` */
export const webhookCreate = defineAction({
  name: "create",
  description: "Have a URL told of events. Its secret is printed this once",
  args: {
    url: { type: "positional", description: "Where events are posted to", required: true },
    events: { ...EVENTS_OPTION, description: `${EVENTS_OPTION.description} (default: all)` },
    description: { type: "string", description: "For people", valueHint: "text" },
  },
  async run({ args }) {
    using api = openApi(await apiTarget());
    const body = { url: args.url, events: eventsOption(args.events), description: args.description };
    const made = await sendJson(api, "POST", "/v1/webhooks", body, webhookWithSecretSchema);
    if (args.json) return printJson(made);
    console.log(made.webhook_id);
    console.log(made.secret);
    console.error(`The secret cannot be shown again. Try it: ./torpor webhook test ${made.webhook_id}`);
  },
});
