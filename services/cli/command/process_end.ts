import type { Followed, Following } from "@torpor/sdk/follow_process";
import { writeAll } from "../terminal/write_all.ts";
import { EXIT } from "./exit_codes.ts";

/** A process's output to this program's own, and notices to stderr. */
export function terminalOutput(): Pick<Following, "output" | "notice"> {
  return {
    output: (stream, data) => writeAll(stream === "stdout" ? Deno.stdout : Deno.stderr, data),
    notice: (text) => console.error(`torpor: ${text}`),
  };
}

/** The exit code that a followed process stands for. Output that is missing is a failure, whatever the process says. */
export function endOf(followed: Followed, sandboxId: string): number {
  if (followed.kind === "paused") {
    const { pid, afterSequence } = followed.position;
    console.error(
      "torpor: the sandbox was paused, and the command with it; after a resume it goes on:\n" +
        `  ./torpor attach ${sandboxId} ${pid} --after ${afterSequence}`,
    );
    return EXIT.conflict;
  }
  const { exited, lost } = followed;
  if (exited.timedOut) console.error("the command was killed: it ran longer than --timeout");
  return exited.exitCode === 0 && lost ? EXIT.failed : exited.exitCode;
}
