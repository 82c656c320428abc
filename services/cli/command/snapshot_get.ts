import { apiTarget, openApi } from "../client/api.ts";
import { snapshotJson } from "../client/snapshot_view.ts";
import { required } from "../client/traced_call.ts";
import { flattenFields } from "../terminal/flatten_fields.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor snapshot get` */
export const snapshotGet = defineAction({
  name: "get",
  description: "Show a snapshot",
  args: { snapshot: { type: "positional", required: true, description: "Name or id of the snapshot" } },
  async run({ args }) {
    using api = openApi(await apiTarget());
    const { snapshot } = await api.snapshots.getSnapshot({ snapshot: args.snapshot });
    const fields = snapshotJson(required(snapshot, "snapshot"));
    if (args.json) return printJson(fields);
    console.log(formatTable(flattenFields(fields)));
  },
});
