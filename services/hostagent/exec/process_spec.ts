import { TorporError } from "@torpor/errors";
import type { ExecRequest } from "@torpor/proto/hostagent";
import { requireCommand, requireUser, requireWorkingDirectory } from "../guest/arguments.ts";
import type { ProcessSpec } from "../guest/mod.ts";

/** Longest timeout of a command, seconds: a week. */
const MAX_TIMEOUT_SEC = 604_800;

/** The fields that Exec and ExecStream share. */
type CommandRequest = Pick<ExecRequest, "cmd" | "args" | "timeoutSec" | "env" | "workingDirectory" | "user">;

/**
 * What to start in the guest. Without arguments the command line goes to a login shell (its profile sets PATH).
 * @param sandboxEnvironment comes first; the call's own environment overrides it.
 * @param defaultTimeoutSec for a call that names none; 0: no timeout.
 * @throws TorporError `invalid_argument` with the field.
 */
export function processSpec(
  request: CommandRequest,
  sandboxEnvironment: Record<string, string>,
  defaultTimeoutSec: number,
): ProcessSpec {
  const { cmd, args, timeoutSec } = request;
  if (cmd === "") throw new TorporError("invalid_argument", "cmd is empty", { field: "cmd" });
  if (timeoutSec < 0 || timeoutSec > MAX_TIMEOUT_SEC) {
    throw new TorporError("invalid_argument", `timeout_sec is not 0 to ${MAX_TIMEOUT_SEC}`, { field: "timeout_sec" });
  }
  const argv = args.length === 0 ? ["/bin/bash", "-l", "-c", cmd] : [cmd, ...args];
  const environment = { ...sandboxEnvironment, ...request.env };
  requireCommand(argv, environment);
  return {
    argv,
    environment,
    workingDirectory: requireWorkingDirectory(request.workingDirectory),
    user: requireUser(request.user),
    timeoutMs: (timeoutSec || defaultTimeoutSec) * 1000,
  };
}
