import { apiTarget, openApi } from "../client/api.ts";
import { sandboxJson } from "../client/sandbox_view.ts";
import { required, traced } from "../client/traced_call.ts";
import { formatBytes, formatMs, roundMs } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor pause` */
export const pause = defineAction({
  name: "pause",
  description: "Save a sandbox's memory and processes to disk and end its VM",
  args: { id: { type: "positional", required: true, description: "Id of the sandbox" } },
  async run({ args }) {
    using api = openApi(await apiTarget());
    const { response, traceId, ms } = await new Progress().step(
      `pausing ${args.id}`,
      () => traced((options) => api.sandboxes.pauseSandbox({ sandboxId: args.id }, options)),
    );
    const paused = required(response.sandbox, "sandbox");
    if (args.json) return printJson({ ...sandboxJson(paused), elapsed_ms: roundMs(ms), trace_id: traceId });
    const size = paused.snapshot ? formatBytes(Number(paused.snapshot.sizeBytes)) : "nothing";
    console.log(`Paused after ${formatMs(ms)}; generation ${paused.snapshot?.generation ?? 0} stores ${size}.`);
    if (traceId) console.log(`Trace: ./torpor trace ${traceId}`);
  },
});
