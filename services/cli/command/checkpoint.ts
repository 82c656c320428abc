import { apiTarget, openApi } from "../client/api.ts";
import { snapshotJson } from "../client/snapshot_view.ts";
import { required, traced } from "../client/traced_call.ts";
import { roundMs } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction } from "./define.ts";
import { KEEP_FOR_OPTION, keepForOption } from "./keep_for_option.ts";
import { printJson } from "./print.ts";
import { describeSnapshot } from "./snapshot_line.ts";

/** `torpor checkpoint` */
export const checkpoint = defineAction({
  name: "checkpoint",
  description: "Take a snapshot with a generated name of a sandbox, which goes on as it was",
  args: {
    id: { type: "positional", required: true, description: "Id of the sandbox" },
    "keep-for": KEEP_FOR_OPTION,
  },
  async run({ args }) {
    const expiresInSec = keepForOption(args["keep-for"]);
    using api = openApi(await apiTarget());
    const { response, traceId, ms } = await new Progress().step(
      `taking a checkpoint of ${args.id}`,
      () => traced((options) => api.sandboxes.checkpointSandbox({ sandboxId: args.id, expiresInSec }, options)),
    );
    const taken = required(response.snapshot, "snapshot");
    if (args.json) return printJson({ ...snapshotJson(taken), elapsed_ms: roundMs(ms), trace_id: traceId });
    console.log(taken.name);
    console.error(`${describeSnapshot(taken, ms)}; trace ${traceId ?? "unknown"}`);
  },
});
