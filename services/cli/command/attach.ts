import { type Api, apiTarget, openApi } from "../client/api.ts";
import { followProcess } from "@torpor/sdk/follow_process";
import { forwardInput } from "../client/forward_input.ts";
import { defineAction, integerOption } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { endOf, terminalOutput } from "./process_end.ts";

/** `torpor attach` */
export const attach = defineAction({
  name: "attach",
  description:
    "Show what a process that exec started has written and writes. Ends with its exit code; Ctrl-C leaves it running",
  args: {
    id: { type: "positional", required: true, description: "Id of the sandbox" },
    pid: { type: "positional", required: true, description: "Number of the process" },
    after: { type: "string", description: "Number of the last output that is known (default: all that is kept)" },
    interactive: { type: "boolean", alias: "i", description: "Pass on stdin" },
    wait: { type: "boolean", description: "Let the process wait for this reader instead of losing output" },
  },
  async run({ args }) {
    const pid = integerOption(args.pid, "PID", 1, 4_194_304);
    const after = args.after ?? "0";
    if (!/^[0-9]{1,19}$/.test(after)) throw new UsageError("--after must be a number");
    using api = openApi(await apiTarget());
    const options = { sandboxId: args.id, holdBack: args.wait };
    await using cleanup = new AsyncDisposableStack();
    const followed = await followProcess({
      ...terminalOutput(),
      open: () => api.sandboxes.attachProcess({ ...options, pid, afterSequence: BigInt(after) }),
      attach: (position) => api.sandboxes.attachProcess({ ...options, ...position }),
      started: () => {
        if (args.interactive) cleanup.use(input(api, args.id, pid!));
      },
    });
    // Who comes late has no claim to the whole output, and was told what is missing.
    return endOf({ ...followed, lost: false }, args.id);
  },
});

function input(api: Api, sandboxId: string, pid: number): AsyncDisposable {
  return forwardInput((data, eof) => api.sandboxes.sendProcessInput({ sandboxId, pid, data, eof }));
}
