import { apiTarget, openApi } from "../client/api.ts";
import { sendJson, webhookPath, webhookWithSecretSchema } from "../client/webhook_view.ts";
import { defineAction, integerOption } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor webhook rotate` */
export const webhookRotate = defineAction({
  name: "rotate",
  description: "Give a webhook a new secret, printed this once; the old one signs beside it for a while",
  args: {
    id: { type: "positional", description: "Id of the webhook", required: true },
    overlap: { type: "string", description: "Seconds that both are valid (default: 86400)", valueHint: "number" },
  },
  async run({ args }) {
    const overlap_sec = integerOption(args.overlap, "--overlap", 0, 604_800);
    using api = openApi(await apiTarget());
    const rotated = await sendJson(
      api,
      "POST",
      `${webhookPath(args.id)}/rotate`,
      { overlap_sec },
      webhookWithSecretSchema,
    );
    if (args.json) return printJson(rotated);
    console.log(rotated.secret);
    console.error("It cannot be shown again.");
  },
});
