import { endProcess, listProcesses, type ProcessInfo, waitUntilGone } from "../process/process_table.ts";

const SETTLE_MS = 10_000;

/** The environment variable that marks every process of one test run; children inherit it. */
export const RUN_VARIABLE = "TORPOR_TEST_RUN";

/** What a machine has besides processes that a test could leave behind. */
export interface MachineState {
  interfaces: string[];
  namespaces: string[];
  mounts: string[];
}

/** The network interfaces, named network namespaces and mount points of this machine. */
export function machineState(): MachineState {
  const mounts = Deno.readTextFileSync("/proc/self/mountinfo").split("\n").filter((line) => line !== "");
  return {
    interfaces: namesIn("/sys/class/net"),
    namespaces: namesIn("/run/netns"),
    // iproute2 mounts this with the first namespace that it makes, for good.
    mounts: mounts.map((line) => line.split(" ")[4]!).filter((path) => path !== "/run/netns"),
  };
}

/**
 * What a test run has left: processes that carry its mark or name its directory, and whatever `before` did not have.
 * The processes are ended. Returns one line each; none when all is well.
 * @param settleMs how long each process may take to end by itself.
 */
export async function findAndEndLeftovers(
  run: string,
  directory: string,
  before: MachineState,
  settleMs = SETTLE_MS,
): Promise<string[]> {
  const left: string[] = [];
  for (const process of processesOf(run, directory)) {
    // Some end by themselves when they notice that the tests have.
    if (await waitUntilGone(process, settleMs)) continue;
    left.push(`process ${process.pid}: ${process.argv.join(" ").slice(0, 200)}`);
    await endProcess(process, 2000);
  }
  const after = machineState();
  for (const kind of ["interfaces", "namespaces", "mounts"] as const) {
    for (const name of after[kind]) if (!before[kind].includes(name)) left.push(`${kind.slice(0, -1)}: ${name}`);
  }
  return left;
}

function processesOf(run: string, directory: string): ProcessInfo[] {
  return listProcesses().filter(({ pid, argv, env }) =>
    pid !== Deno.pid && (env.get(RUN_VARIABLE) === run || argv.some((argument) => argument.includes(directory)))
  );
}

function namesIn(directory: string): string[] {
  try {
    return Array.from(Deno.readDirSync(directory), (entry) => entry.name);
  } catch (error) {
    // /run/netns appears with the first namespace.
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
