/** What a host agent has made on a machine besides files: listed before and after, so that nothing is left. */
import { listProcesses, type ProcessInfo } from "../../../services/cli/process/process_table.ts";
import { Layout } from "../../../services/hostagent/storage/layout.ts";
import type { Namespace } from "../ground/mod.ts";

/** Names by kind. Numbers that differ from one virtual machine to the next are left out of them. */
export type Listing = Record<string, string[]>;

/** Whose things are listed. */
export interface Listed {
  home: string;
  /** Where the agent runs. */
  namespace: Namespace;
  /** What the agent puts into the names of its devices and namespaces. */
  agentId: string;
  /** Undefined: no agent runs. */
  agentPid?: number;
}

/** Lists what there is. */
export async function list({ home, namespace, agentId, agentPid }: Listed): Promise<Listing> {
  const layout = new Layout(home);
  const rules = await rulesIn(namespace);
  return {
    devices: names(await namespace.run("ip", "-o", "link", "show"), /^\d+: (tv[\w-]+)/),
    namespaces: (await entries("/run/netns")).filter((name) => name.startsWith(`torpor-${agentId}-`)),
    routes: names(await namespace.run("ip", "route", "show", "table", "all"), /(.*\btv.*)/),
    tables: names(rules, /^table (.*) \{$/),
    rules: names(rules, /^\s+((?:ip|ip6|tcp|udp|iifname|oifname|ct|meta|fib) .*)$/),
    processes: (await processesOf(home, agentId)).filter(({ pid }) => pid !== agentPid).map(({ argv }) => argv[0]!),
    cgroups: await cgroupsOf(agentId),
    mounts: (await Deno.readTextFile("/proc/self/mountinfo")).split("\n").filter((line) => line.includes(home)),
    sandboxes: await entries(layout.sandboxes),
    staging: await entries(layout.staging),
    spares: await entries(layout.spares),
    bases: await entries(layout.bases),
    descriptors: agentPid === undefined ? [] : await descriptorsOf(agentPid),
  };
}

/** What `after` has that `before` had not: one line each. */
export function leftovers(before: Listing, after: Listing): string[] {
  return Object.entries(after).flatMap(([kind, names]) => {
    const known = before[kind]!.map(withoutNumbers);
    return names.filter((name) => {
      const at = known.indexOf(withoutNumbers(name));
      if (at >= 0) known.splice(at, 1);
      return at < 0;
    }).map((name) => `${kind}: ${name}`);
  });
}

/** Ids are numbers, too. */
function withoutNumbers(name: string): string {
  return name.replace(/\b[a-z0-9]{20}\b/g, "#").replace(/\d+/g, "#");
}

function names(text: string, pattern: RegExp): string[] {
  return text.split("\n").flatMap((line) => pattern.exec(line)?.[1] ?? []);
}

/** All tables but the ground's own. */
async function rulesIn(namespace: Namespace): Promise<string> {
  const tables = (await namespace.run("nft", "list", "tables")).split("\n").filter((line) => line !== "");
  const own = tables.filter((line) => !line.endsWith("sightings"));
  return (await Promise.all(own.map((line) => namespace.run("nft", "list", ...line.split(" "))))).join("\n");
}

/** Confined ones name nothing of the agent, but are in its cgroups. */
async function processesOf(home: string, agentId: string): Promise<ProcessInfo[]> {
  const found: ProcessInfo[] = [];
  for (const process of listProcesses()) {
    if (process.pid === Deno.pid) continue;
    const { pid, argv, env } = process;
    const named = env.get("TORPOR_HOME") === home || argv.some((argument) => argument.includes(home));
    const groups = await Deno.readTextFile(`/proc/${pid}/cgroup`).catch(() => "");
    if (named || groups.includes(`/torpor/${agentId}`)) found.push(process);
  }
  return found;
}

/** In all hierarchies of cgroups. */
async function cgroupsOf(agentId: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (directory: string) => {
    for (const name of await entries(directory)) {
      const path = `${directory}/${name}`;
      if (!(await Deno.lstat(path).catch(() => undefined))?.isDirectory) continue;
      if (path.includes(agentId)) found.push(path);
      await walk(path);
    }
  };
  await walk("/sys/fs/cgroup");
  return found;
}

async function entries(directory: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** By what they are: `socket`, `pipe`, a path. Their numbers do not matter. */
async function descriptorsOf(pid: number): Promise<string[]> {
  const targets: string[] = [];
  for (const name of await entries(`/proc/${pid}/fd`)) {
    try {
      targets.push(await Deno.readLink(`/proc/${pid}/fd/${name}`));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // Closed meanwhile.
    }
  }
  return targets;
}

/** What the agent in a namespace calls itself, as its devices show it. */
export async function agentIdIn(namespace: Namespace): Promise<string> {
  const id = /^\d+: tv([0-9a-f]+)-\d+/m.exec(await namespace.run("ip", "-o", "link", "show"))?.[1];
  if (!id) throw new Error("the agent has no slot");
  return id;
}
