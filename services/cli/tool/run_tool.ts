import { TorporError } from "@torpor/errors";
import { TextLineStream } from "./text_lines.ts";

/** How to run an external program. */
export interface ToolOptions {
  cwd?: string;
  env?: Record<string, string>;
  uid?: number;
  gid?: number;
  /** Ends it with SIGTERM. */
  signal?: AbortSignal;
  /** Each line of its output, as it comes. */
  onLine?: (line: string, stream: "stdout" | "stderr") => void;
  /** What to do when it fails, for the error's hint. */
  hint?: string;
}

const KEPT_LINES = 30;

/**
 * Runs a program to its end and returns its stdout.
 * @throws TorporError `internal` with the last lines of its output when it cannot be started or exits with another code
 * than 0.
 */
export async function runTool(argv: readonly string[], options: ToolOptions = {}): Promise<string> {
  const tail: string[] = [];
  const stdout: string[] = [];
  const { success, code } = await runLines(argv, options, (line, stream) => {
    tail.push(line);
    if (tail.length > KEPT_LINES) tail.shift();
    if (stream === "stdout") stdout.push(line);
    options.onLine?.(line, stream);
  });
  if (!success) {
    throw new TorporError("internal", `${argv.join(" ")} failed with exit code ${code}:\n${tail.join("\n")}`, {
      hint: options.hint,
    });
  }
  return stdout.join("\n");
}

/** True when the program ran and exited with 0; false when it exited otherwise or does not exist. */
export async function succeeds(argv: readonly string[], options: ToolOptions = {}): Promise<boolean> {
  try {
    return (await runLines(argv, options, () => {})).success;
  } catch (error) {
    if (error instanceof TorporError && error.cause instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Runs a program and hands over each line of its output.
 * @throws TorporError `internal` when it cannot be started.
 */
export async function runLines(
  argv: readonly string[],
  options: ToolOptions,
  onLine: (line: string, stream: "stdout" | "stderr") => void,
): Promise<Deno.CommandStatus> {
  const child = start(argv, options);
  const forward = async (stream: "stdout" | "stderr") => {
    const lines = child[stream].pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    for await (const line of lines) onLine(line, stream);
  };
  const [status] = await Promise.all([child.status, forward("stdout"), forward("stderr")]);
  return status;
}

function start(argv: readonly string[], options: ToolOptions): Deno.ChildProcess {
  try {
    return new Deno.Command(argv[0]!, {
      args: argv.slice(1),
      cwd: options.cwd,
      env: options.env,
      uid: options.uid,
      gid: options.gid,
      signal: options.signal,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    throw new TorporError("internal", `cannot run ${argv[0]}`, { cause: error, hint: options.hint });
  }
}
