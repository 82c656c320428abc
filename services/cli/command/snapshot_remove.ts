import { adminTarget, apiTarget, openApi } from "../client/api.ts";
import { defineAction } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor snapshot rm` */
export const snapshotRemove = defineAction({
  name: "rm",
  description: "Delete snapshots. Sandboxes that were spawned from them go on",
  args: { platform: { type: "boolean", description: "As the administrator of the deployment" } },
  rest: "NAME…",
  async run({ args, rest }) {
    if (rest.length === 0) throw new UsageError("name at least one snapshot");
    using api = openApi(args.platform ? await adminTarget() : await apiTarget());
    const deleted: { snapshot: string; confirmed: boolean }[] = [];
    for (const snapshot of rest) {
      const { confirmed } = await api.snapshots.deleteSnapshot({ snapshot });
      deleted.push({ snapshot, confirmed });
      if (!args.json) console.log(confirmed ? snapshot : `${snapshot} (accepted; the host has not confirmed yet)`);
    }
    if (args.json) printJson({ deleted });
  },
});
