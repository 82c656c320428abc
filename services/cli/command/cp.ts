import { apiTarget, openApi } from "../client/api.ts";
import { type CopyEnd, parseCopyEnd } from "../client/copy_end.ts";
import { download, upload } from "../client/copy_file.ts";
import { formatBytes, roundMs } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor cp` */
export const cp = defineAction({
  name: "cp",
  description: "Copy a file: LOCAL ID:PATH, or ID:PATH LOCAL. LOCAL may be - for stdin or stdout",
  args: {
    from: { type: "positional", required: true, description: "Source" },
    to: { type: "positional", required: true, description: "Destination" },
    user: { type: "string", description: "User in the sandbox, who must be allowed to (default: user)" },
  },
  async run({ args }) {
    const from = parseCopyEnd(args.from);
    const to = parseCopyEnd(args.to);
    if ((from.sandboxId === undefined) === (to.sandboxId === undefined)) {
      throw new UsageError("one of the two is a local path, the other one is ID:PATH");
    }
    using api = openApi(await apiTarget());
    const started = performance.now();
    const copy = from.sandboxId === undefined ? upload : download;
    const bytes = await new Progress().step(
      `copying ${args.from} to ${args.to}`,
      (report) => {
        // Elsewhere than on a terminal each report would be a line of its own.
        const onBytes = Deno.stderr.isTerminal() ? (done: number) => report(formatBytes(done)) : () => {};
        return copy(api, from, to as Required<CopyEnd>, args.user, onBytes);
      },
    );
    if (args.json) printJson({ bytes, elapsed_ms: roundMs(performance.now() - started) });
  },
});
