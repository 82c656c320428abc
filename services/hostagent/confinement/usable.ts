import { type Confinement, NativeError, spawn } from "@torpor/ffi";
import { log } from "@torpor/telemetry";

/** A program that is everywhere, does nothing, and needs its libraries for that. */
const PROGRAM = "/bin/true";

/** One thing that can be taken from a program. */
export interface Measure {
  uid?: number;
  gid?: number;
  confinement: Confinement;
}

/**
 * Which measures this host can take: found out by starting a program with them, as what a container or a kernel refuses has many
 * forms. Those that it refuses are logged.
 */
export async function usableMeasures<Name extends string>(
  measures: Partial<Record<Name, Measure>>,
): Promise<Set<Name>> {
  const entries = Object.entries(measures) as [Name, Measure][];
  const all = {
    uid: entries.find(([, { uid }]) => uid !== undefined)?.[1].uid,
    gid: entries.find(([, { gid }]) => gid !== undefined)?.[1].gid,
    confinement: Object.assign({}, ...entries.map(([, { confinement }]) => confinement)),
  };
  if (await refusal(all) === undefined) return new Set(entries.map(([name]) => name));
  const usable = new Set<Name>();
  for (const [name, measure] of entries) {
    const refused = await refusal(measure);
    if (refused === undefined) usable.add(name);
    else log("warn", "confinement_unavailable", { what: name }, refused);
  }
  return usable;
}

async function refusal(measure: Measure): Promise<Error | undefined> {
  try {
    const base = { path: PROGRAM, argv: [PROGRAM], env: {}, cwd: "/", descriptors: [], noNewPrivileges: true };
    const { code, signal } = await spawn({ ...base, ...measure }).exited;
    return code === 0 ? undefined : new Error(`${PROGRAM} ended with status ${code}, signal ${signal}`);
  } catch (error) {
    if (error instanceof NativeError) return error;
    throw error;
  }
}
