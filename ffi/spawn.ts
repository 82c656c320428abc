/** Starting programs with exactly the descriptors that they are to have. @module */
import { type Confinement, packConfinement } from "./confinement.ts";
import { Descriptor } from "./descriptor.ts";
import { check, invalidArgument } from "./errors.ts";
import { native } from "./library.ts";
import { Process } from "./process.ts";

/** What to start, and with what. */
export interface SpawnOptions {
  /** Path of the program; PATH is not searched. */
  readonly path: string;
  /** All arguments, **from argv[0]**. */
  readonly argv: readonly string[];
  /** The whole environment; nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  /** Working directory; this process's if absent. */
  readonly cwd?: string;
  /** Number in the child ← descriptor here. 0, 1, 2 are /dev/null unless given; everything else is closed. */
  readonly descriptors: readonly { readonly childFd: number; readonly fd: number }[];
  readonly stdoutFd?: number;
  readonly stderrFd?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly noNewPrivileges?: boolean;
  /** Signal that the child gets when this process's main thread ends. */
  readonly deathSignal?: number;
  /** What is taken from it before it runs. */
  readonly confinement?: Confinement;
}

const stages = [
  ...["start", "setsid", "descriptors", "cwd", "credentials", "exec"],
  ...["OOM score", "namespaces", "limits", "capabilities", "system call filter"],
];

function descriptorPairs(options: SpawnOptions): Int32Array<ArrayBuffer> {
  const given = new Map<number, number>();
  const all = [...options.descriptors];
  if (options.stdoutFd !== undefined) all.push({ childFd: 1, fd: options.stdoutFd });
  if (options.stderrFd !== undefined) all.push({ childFd: 2, fd: options.stderrFd });
  for (const { childFd, fd } of all) {
    if (given.has(childFd)) throw invalidArgument("spawn", `descriptor ${childFd} is given twice`);
    given.set(childFd, fd);
  }
  return Int32Array.from([...given].flat());
}

function packStrings(options: SpawnOptions, environment: string[]): Uint8Array<ArrayBuffer> {
  const strings = [options.path, ...options.argv, ...environment];
  if (options.cwd !== undefined) strings.push(options.cwd);
  if (strings.some((text) => text.includes("\0"))) throw invalidArgument("spawn", "NUL in a string");
  return new TextEncoder().encode(strings.join("\0") + "\0");
}

/**
 * Starts a program in a session of its own, with default signal handling. The descriptors stay the caller's and may be closed when
 * the call returns. Synchronous (about 1 ms), and on the main thread, which is what `deathSignal` refers to.
 *
 * @throws {NativeError} with the errno of whatever failed in the child before the program ran, `native_enoent` if there is none.
 */
export function spawn(options: SpawnOptions): Process {
  const environment = Object.entries(options.env).map(([name, value]) => `${name}=${value}`);
  const pairs = descriptorPairs(options);
  const strings = packStrings(options, environment);
  const numbers = Int32Array.of(
    options.argv.length,
    environment.length,
    options.cwd === undefined ? 0 : 1,
    pairs.length / 2,
    options.uid ?? -1,
    options.gid ?? -1,
    options.noNewPrivileges ? 1 : 0,
    options.deathSignal ?? 0,
  );
  const result = new BigInt64Array(3);
  const confinement = options.confinement ? packConfinement(options.confinement) : null;
  const length = BigInt(strings.byteLength);
  const status = native().torpor_spawn_confined(numbers, strings, length, pairs, confinement, result);
  const [pid, pidfd, stage] = new Int32Array(result.buffer);
  check("spawn", status, `${stages[stage!]} of ${options.path}`);
  return new Process(new Descriptor(pidfd!), pid!, BigInt.asUintN(64, result[2]!));
}
