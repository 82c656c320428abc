import { apiTarget, openApi } from "../client/api.ts";
import { sandboxJson } from "../client/sandbox_view.ts";
import { required, traced } from "../client/traced_call.ts";
import { formatMs, roundMs } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction, integerOption } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor resume` */
export const resume = defineAction({
  name: "resume",
  description: "Bring a paused sandbox back where it was",
  args: {
    id: { type: "positional", required: true, description: "Id of the sandbox" },
    timeout: { type: "string", description: "Idle seconds until it is paused again (default: as before)" },
  },
  async run({ args }) {
    const timeoutSec = integerOption(args.timeout, "--timeout", 0, 604_800);
    using api = openApi(await apiTarget());
    const { response, traceId, ms } = await new Progress().step(
      `resuming ${args.id}`,
      () => traced((options) => api.sandboxes.resumeSandbox({ sandboxId: args.id, timeoutSec }, options)),
    );
    const resumed = required(response.sandbox, "sandbox");
    if (args.json) return printJson({ ...sandboxJson(resumed), elapsed_ms: roundMs(ms), trace_id: traceId });
    console.log(`Runs again after ${formatMs(ms)}.`);
    if (traceId) console.log(`Trace: ./torpor trace ${traceId}`);
  },
});
