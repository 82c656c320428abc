import { adminTarget, apiTarget, openApi } from "../client/api.ts";
import { snapshotJson } from "../client/snapshot_view.ts";
import { required } from "../client/traced_call.ts";
import { defineAction } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { KEEP_FOR_OPTION, keepForOption } from "./keep_for_option.ts";
import { printJson } from "./print.ts";
import { describeExpiry } from "./snapshot_line.ts";

/** `torpor snapshot update` */
export const snapshotUpdate = defineAction({
  name: "update",
  description: "Change how long a snapshot is kept, from now",
  args: {
    snapshot: { type: "positional", required: true, description: "Name or id of the snapshot" },
    "keep-for": KEEP_FOR_OPTION,
    platform: { type: "boolean", description: "As the administrator of the deployment" },
  },
  async run({ args }) {
    const expiresInSec = keepForOption(args["keep-for"]);
    if (expiresInSec === undefined) throw new UsageError("say how long: --keep-for");
    using api = openApi(args.platform ? await adminTarget() : await apiTarget());
    const { snapshot } = await api.snapshots.updateSnapshot({ snapshot: args.snapshot, expiresInSec });
    const updated = required(snapshot, "snapshot");
    if (args.json) return printJson(snapshotJson(updated));
    console.log(`${updated.name}: ${describeExpiry(updated)}.`);
  },
});
