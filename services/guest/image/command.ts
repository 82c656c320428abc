import { TorporError } from "@torpor/errors";

/** How {@linkcode run} starts a program. */
export interface RunOptions {
  cwd?: string;
  env?: Record<string, string>;
  stdin?: Uint8Array;
  /** Called for each line the program writes to standard error. */
  onLine?: (line: string) => void;
}

const ERROR_LINES = 20;
// Debian's file system tools are in directories that an ordinary user's PATH lacks.
const SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin";

/** PATH with the system directories at its end. */
function searchPath(): string {
  return `${Deno.env.get("PATH") ?? "/usr/local/bin:/usr/bin:/bin"}:${SYSTEM_DIRECTORIES}`;
}

/**
 * Runs a program to its end and returns what it wrote to standard output.
 *
 * @throws TorporError `internal` with the last lines of its standard error when it fails; `config_invalid` when it is
 * not installed.
 */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
  const [program, ...args] = argv as [string, ...string[]];
  const child = startProgram(program, args, options);
  const feeding = options.stdin ? feed(child.stdin, options.stdin) : Promise.resolve();
  const [output, errorLines, status] = await Promise.all([
    new Response(child.stdout).bytes(),
    collectLines(child.stderr, options.onLine),
    child.status,
    feeding,
  ]);
  if (!status.success) {
    const ending = status.signal ? `was ended by ${status.signal}` : `ended with exit code ${status.code}`;
    throw new TorporError("internal", `${program} ${ending}: ${errorLines.slice(-ERROR_LINES).join("\n")}`);
  }
  return output;
}

/** Like {@linkcode run}, with the output as text. */
export async function runText(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  return new TextDecoder().decode(await run(argv, options));
}

/** The programs of `programs` that PATH does not find. */
export async function missingPrograms(programs: readonly string[]): Promise<string[]> {
  const directories = searchPath().split(":").filter((directory) => directory !== "");
  const missing: string[] = [];
  for (const program of programs) {
    const found = await Promise.all(directories.map((directory) => exists(`${directory}/${program}`)));
    if (!found.includes(true)) missing.push(program);
  }
  return missing;
}

/** True when the path names something. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    throw error;
  }
}

function startProgram(program: string, args: string[], options: RunOptions): Deno.ChildProcess {
  try {
    return new Deno.Command(program, {
      args,
      cwd: options.cwd,
      // Messages are shown to people and never parsed, but apt's field names are.
      env: { LC_ALL: "C.UTF-8", DEBIAN_FRONTEND: "noninteractive", ...options.env, PATH: searchPath() },
      stdin: options.stdin ? "piped" : "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new TorporError("config_invalid", `${program} is not installed`, { cause: error });
  }
}

async function feed(stream: WritableStream<Uint8Array>, bytes: Uint8Array): Promise<void> {
  const writer = stream.getWriter();
  try {
    await writer.write(bytes);
    await writer.close();
  } catch (error) {
    // The program ended before it had read everything: its exit status tells whether that was wrong.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

async function collectLines(stream: ReadableStream<Uint8Array>, onLine?: (line: string) => void): Promise<string[]> {
  const lines: string[] = [];
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split(/[\r\n]+/);
    rest = parts.pop() ?? "";
    for (const line of parts.filter((part) => part.trim() !== "")) {
      lines.push(line);
      onLine?.(line);
    }
    if (lines.length > 2 * ERROR_LINES) lines.splice(0, lines.length - ERROR_LINES);
  }
  if (rest.trim() !== "") lines.push(rest);
  return lines;
}
