import { apiTarget, openApi } from "../client/api.ts";
import { sandboxJson } from "../client/sandbox_view.ts";
import { required, traced } from "../client/traced_call.ts";
import { formatMs, roundMs } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction, integerOption } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor fork` */
export const fork = defineAction({
  name: "fork",
  description: "Make sandboxes that go on where this one is, all or none; print their ids",
  args: {
    id: { type: "positional", required: true, description: "Id of the sandbox" },
    count: { type: "string", description: "How many, 1 to 32 (default: 1)", valueHint: "number" },
    timeout: { type: "string", description: "Their idle seconds until they are paused (default: as the source)" },
  },
  async run({ args }) {
    const count = integerOption(args.count, "--count", 1, 32) ?? 1;
    const timeoutSec = integerOption(args.timeout, "--timeout", 0, 604_800);
    using api = openApi(await apiTarget());
    const { response, traceId, ms } = await new Progress().step(
      `forking ${args.id} into ${count}`,
      () => traced((options) => api.sandboxes.forkSandbox({ sandboxId: args.id, count, timeoutSec }, options)),
    );
    const { children, stoppedUs } = response;
    if (args.json) {
      const source = sandboxJson(required(response.source, "source"));
      const about = { stopped_us: stoppedUs, elapsed_ms: roundMs(ms), trace_id: traceId };
      return printJson({ source, children: children.map(sandboxJson), ...about });
    }
    for (const { sandboxId } of children) console.log(sandboxId);
    const stop = stoppedUs === 0n ? "" : `; the source stood still for ${formatMs(Number(stoppedUs) / 1000)}`;
    console.error(`${children.length} run after ${formatMs(ms)}${stop}; trace ${traceId ?? "unknown"}`);
  },
});
