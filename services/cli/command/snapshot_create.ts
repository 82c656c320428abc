import { adminTarget, apiTarget, openApi } from "../client/api.ts";
import { snapshotJson } from "../client/snapshot_view.ts";
import { required, traced } from "../client/traced_call.ts";
import { roundMs } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction } from "./define.ts";
import { KEEP_FOR_OPTION, keepForOption } from "./keep_for_option.ts";
import { printJson } from "./print.ts";
import { describeSnapshot } from "./snapshot_line.ts";

/** `torpor snapshot create` */
export const snapshotCreate = defineAction({
  name: "create",
  description: "Take a snapshot of a sandbox, which goes on as it was. Spawn: ./torpor sandbox create --snapshot NAME",
  args: {
    id: { type: "positional", required: true, description: "Id of the sandbox" },
    name: { type: "positional", required: true, description: "Name of the snapshot" },
    platform: { type: "boolean", description: "For all teams; only for the administrator of the deployment" },
    "keep-for": KEEP_FOR_OPTION,
  },
  async run({ args }) {
    const platform = Boolean(args.platform);
    const expiresInSec = keepForOption(args["keep-for"]);
    using api = openApi(platform ? await adminTarget() : await apiTarget());
    const request = { sandboxId: args.id, name: args.name, platform, expiresInSec };
    const { response, traceId, ms } = await new Progress().step(
      `taking snapshot ${args.name} of ${args.id}`,
      () => traced((options) => api.snapshots.createSnapshot(request, options)),
    );
    const taken = required(response.snapshot, "snapshot");
    if (args.json) return printJson({ ...snapshotJson(taken), elapsed_ms: roundMs(ms), trace_id: traceId });
    console.log(taken.snapshotId);
    console.error(`${describeSnapshot(taken, ms)}; trace ${traceId ?? "unknown"}`);
  },
});
