import { asTorporError } from "@torpor/errors";

/** Exit codes of every command. `exec` ends with the code of the command in the sandbox instead when that ran. */
export const EXIT = { ok: 0, failed: 1, usage: 2, notFound: 3, conflict: 4, unreachable: 5 } as const;

/** For help texts. */
export const EXIT_CODES_HELP = "Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 not found,\n" +
  "4 conflict with the sandbox's state, 5 not running or not reachable";

/** A command line that is wrong: the help text follows the message. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The exit code for an error. */
export function exitCodeOf(thrown: unknown): number {
  if (thrown instanceof UsageError) return EXIT.usage;
  const error = asTorporError(thrown);
  switch (error.httpStatus) {
    case 404:
      return EXIT.notFound;
    case 409:
      return EXIT.conflict;
    case 413:
    case 422:
      return EXIT.usage;
    case 503:
      return EXIT.unreachable;
    default:
      return EXIT.failed;
  }
}
