import { type Api, apiTarget, openApi } from "../client/api.ts";
import { followProcess, type ProcessMessages } from "@torpor/sdk/follow_process";
import { forwardInput } from "../client/forward_input.ts";
import { forwardSignals } from "../client/forward_signals.ts";
import { defineAction, integerOption } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";
import { endOf, terminalOutput } from "./process_end.ts";

/** `torpor exec` */
export const exec = defineAction({
  name: "exec",
  description: "Run a command: ID -- PROGRAM ARG…, or ID -- 'shell command line'. Ends with the command's exit code",
  args: {
    id: { type: "positional", required: true, description: "Id of the sandbox" },
    interactive: { type: "boolean", alias: "i", description: "Pass on stdin from a terminal too (a pipe always is)" },
    user: { type: "string", description: "User in the sandbox (default: user)" },
    cwd: { type: "string", description: "Working directory (default: the user's home)" },
    timeout: { type: "string", description: "Seconds after which the command is killed (default: none)" },
  },
  rest: "-- CMD…",
  async run({ args, rest }) {
    if (rest.length === 0) throw new UsageError("no command; put it after --");
    const [cmd, ...argv] = rest;
    const request = {
      sandboxId: args.id,
      cmd,
      args: argv,
      user: args.user,
      workingDirectory: args.cwd,
      timeoutSec: integerOption(args.timeout, "--timeout", 1, 86_400),
    };
    using api = openApi(await apiTarget());
    if (args.json) {
      const { stdout, stderr, exitCode, signal, timedOut, pid } = await api.sandboxes.exec(request);
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      printJson({
        ...{ stdout: text(stdout), stderr: text(stderr), exit_code: exitCode, signal, timed_out: timedOut, pid },
      });
      return exitCode;
    }
    const keepStdinOpen = Boolean(args.interactive) || !Deno.stdin.isTerminal();
    return await runAttached(api, args.id, api.sandboxes.execStream({ ...request, keepStdinOpen }), keepStdinOpen);
  },
});

/** Shows a process's output as it comes, over broken connections; feeds it stdin and signals, and returns its exit code. */
async function runAttached(
  api: Api,
  sandboxId: string,
  events: ProcessMessages,
  withStdin: boolean,
): Promise<number> {
  await using cleanup = new AsyncDisposableStack();
  const followed = await followProcess({
    ...terminalOutput(),
    open: () => events,
    attach: (position) => api.sandboxes.attachProcess({ sandboxId, ...position, holdBack: true }),
    started: (pid) => {
      cleanup.use(forwardSignals((signal) => api.sandboxes.signalProcess({ sandboxId, pid, signal })));
      if (withStdin) {
        cleanup.use(forwardInput((data, eof) => api.sandboxes.sendProcessInput({ sandboxId, pid, data, eof })));
      }
    },
  });
  return endOf(followed, sandboxId);
}
