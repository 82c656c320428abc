import { fromFileUrl, join } from "@std/path";
import { adoptProcess, openFile, type Process, spawn } from "@torpor/ffi";
import { z } from "zod";
import type { ProcessConfig } from "./control_messages.ts";
import { egressUser } from "./egress_user.ts";
import { EGRESS_LIMITS } from "./limits.ts";

/** Two descriptors for each connection, two listeners for each slot, and some for queries. */
const MAX_DESCRIPTORS = 2 * EGRESS_LIMITS.connections + 12_288;
const MAX_HEAP_MB = 256;
const MAX_LOG_BYTES = 16 << 20;
const SETPRIV = "/usr/bin/setpriv";

const identitySchema = z.object({ pid: z.int().positive(), start_time: z.string().regex(/^\d+$/) });

/** Files of the proxy in the data directory. */
export function egressFiles(directory: string): { socket: string; identity: string; log: string } {
  return {
    socket: join(directory, "control.sock"),
    identity: join(directory, "process.json"),
    log: join(directory, "egress.log"),
  };
}

/**
 * Starts the proxy's process: as a user of its own when this one is root, without capabilities, able to use the network and its
 * control socket and nothing else. It is remembered in `directory`.
 * @throws NativeError.
 */
export async function startProcess(directory: string, config: ProcessConfig): Promise<Process> {
  const { socket, identity, log } = egressFiles(directory);
  await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
  await Deno.remove(socket).catch(ignoreMissing);
  using output = openFile(log, { write: true, create: true, truncate: true });
  const process = spawn({
    path: SETPRIV,
    argv: ["setpriv", ...privileges(), Deno.execPath(), ...denoArguments(socket), JSON.stringify(config)],
    env: environment(),
    descriptors: [],
    stdoutFd: output.fd,
    stderrFd: output.fd,
    noNewPrivileges: true,
    confinement: { maxDescriptors: MAX_DESCRIPTORS, maxCoreBytes: 0, maxFileBytes: MAX_LOG_BYTES, oomScore: 500 },
  });
  try {
    await remember(identity, process);
  } catch (error) {
    await process[Symbol.asyncDispose]();
    throw error;
  }
  return process;
}

/** Finds the process of an earlier agent again; undefined when there is none. */
export async function findProcess(directory: string): Promise<Process | undefined> {
  const { socket, identity } = egressFiles(directory);
  const text = await Deno.readTextFile(identity).catch(ignoreMissing);
  const known = identitySchema.safeParse(text === undefined ? undefined : parseOrNothing(text));
  if (!known.success) return undefined;
  const { pid, start_time } = known.data;
  return adoptProcess({ pid, startTime: BigInt(start_time), commandLineIncludes: socket }) ?? undefined;
}

/** Kills the process and forgets it. */
export async function endProcess(directory: string, process: Process | undefined): Promise<void> {
  const { socket, identity } = egressFiles(directory);
  await process?.[Symbol.asyncDispose]();
  for (const path of [socket, identity]) await Deno.remove(path).catch(ignoreMissing);
}

/** Written in one piece: an agent may be killed at any time. */
async function remember(path: string, { pid, startTime }: Process): Promise<void> {
  await Deno.writeTextFile(`${path}.new`, JSON.stringify({ pid, start_time: String(startTime) }));
  await Deno.rename(`${path}.new`, path);
}

/** Root keeps what it takes to become another user, and loses that by doing so. */
function privileges(): string[] {
  const none = ["--inh-caps=-all", "--ambient-caps=-all"];
  return egressUser() !== undefined ? [...none, "--clear-groups", "--bounding-set=-all,+setuid,+setgid"] : none;
}

/** `--allow-sys`: to become another user, and to see this machine's addresses. */
function denoArguments(socket: string): string[] {
  const permissions = ["--allow-net", "--allow-sys", `--allow-read=${socket}`, `--allow-write=${socket}`];
  const main = fromFileUrl(new URL("./main.ts", import.meta.url));
  const options = [
    "--no-prompt",
    "--quiet",
    "--cached-only",
    "--no-code-cache",
    `--v8-flags=--max-old-space-size=${MAX_HEAP_MB}`,
  ];
  return ["run", ...options, ...permissions, main];
}

function environment(): Record<string, string> {
  const passed = ["PATH", "HOME", "DENO_DIR", "XDG_CACHE_HOME"].flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [[name, value]];
  });
  return { ...Object.fromEntries(passed), NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
}

/** What a crash of the machine has torn tells nothing. */
function parseOrNothing(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function ignoreMissing(error: unknown): undefined {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
