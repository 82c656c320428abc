import { join } from "@std/path";
import { REPOSITORY } from "../deployment/repository.ts";
import { runLines } from "../tool/run_tool.ts";
import type { SuiteContext } from "./suites.ts";

/** What a program of tests has come to. */
export interface Reported {
  success: boolean;
  /** The last line of its stdout: one JSON object; "" when it wrote none. */
  answer: string;
  /** The last lines of all that it wrote. */
  tail: string;
}

/** Runs a program of `tests/` that shows its progress on stderr and ends with one JSON object on stdout. */
export async function runReporter(program: string, context: SuiteContext): Promise<Reported> {
  const options = ["--quiet", "--frozen", "--allow-all", "--no-check"];
  const argv = [Deno.execPath(), "run", ...options, join(REPOSITORY, program)];
  const lines: string[] = [];
  let answer = "";
  const { success } = await runLines(
    argv,
    { cwd: REPOSITORY, env: { ...context.env, NO_COLOR: "1" } },
    (line, stream) => {
      if (stream === "stdout") answer = line;
      else context.onLine(line);
      lines.push(line);
    },
  );
  return { success, answer, tail: lines.slice(-40).join("\n") };
}
