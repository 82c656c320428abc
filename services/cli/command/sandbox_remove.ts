import { apiTarget, openApi } from "../client/api.ts";
import { defineAction } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor sandbox rm` */
export const sandboxRemove = defineAction({
  name: "rm",
  description: "Delete sandboxes with their snapshots",
  rest: "ID…",
  async run({ args, rest }) {
    if (rest.length === 0) throw new UsageError("name at least one sandbox");
    using api = openApi(await apiTarget());
    const deleted: { sandbox_id: string; confirmed: boolean }[] = [];
    for (const sandboxId of rest) {
      const { confirmed } = await api.sandboxes.deleteSandbox({ sandboxId });
      deleted.push({ sandbox_id: sandboxId, confirmed });
      if (!args.json) console.log(confirmed ? sandboxId : `${sandboxId} (accepted; the host has not confirmed yet)`);
    }
    if (args.json) printJson({ deleted });
  },
});
