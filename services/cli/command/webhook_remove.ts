import { apiTarget, openApi } from "../client/api.ts";
import { webhookPath } from "../client/webhook_view.ts";
import { defineAction } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor webhook rm` */
export const webhookRemove = defineAction({
  name: "rm",
  description: "Delete webhooks; what has not been delivered is given up",
  rest: "ID…",
  async run({ args, rest }) {
    if (rest.length === 0) throw new UsageError("name at least one webhook");
    using api = openApi(await apiTarget());
    for (const id of rest) {
      await (await api.rest(webhookPath(id), { method: "DELETE" })).body?.cancel();
      if (!args.json) console.log(id);
    }
    if (args.json) printJson({ deleted: rest });
  },
});
