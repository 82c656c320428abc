import { apiTarget, openApi } from "../client/api.ts";
import { hookJson, sandboxJson } from "../client/sandbox_view.ts";
import { required, traced } from "../client/traced_call.ts";
import { formatBytes, formatMs, roundMs } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";
import { RECLAIM_OPTION, reclaimOption } from "./reclaim_option.ts";

/** `torpor pause` */
export const pause = defineAction({
  name: "pause",
  description: "Save a sandbox's memory and processes to disk and end its VM",
  args: { id: { type: "positional", required: true, description: "Id of the sandbox" }, reclaim: RECLAIM_OPTION },
  async run({ args }) {
    const reclaim = reclaimOption(args.reclaim);
    using api = openApi(await apiTarget());
    const { response, traceId, ms } = await new Progress().step(
      `pausing ${args.id}`,
      () => traced((options) => api.sandboxes.pauseSandbox({ sandboxId: args.id, reclaim }, options)),
    );
    const paused = required(response.sandbox, "sandbox");
    if (args.json) {
      const hooks = response.hooks.map(hookJson);
      return printJson({ ...sandboxJson(paused), hooks, elapsed_ms: roundMs(ms), trace_id: traceId });
    }
    const size = paused.snapshot ? formatBytes(Number(paused.snapshot.sizeBytes)) : "nothing";
    console.log(`Paused after ${formatMs(ms)}; generation ${paused.snapshot?.generation ?? 0} stores ${size}.`);
    for (const hook of response.hooks) {
      console.log(`  ${hook.step}: ${hook.outcome} ${formatMs(Number(hook.durationUs) / 1000)}`);
    }
    if (traceId) console.log(`Trace: ./torpor trace ${traceId}`);
  },
});
