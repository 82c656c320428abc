import { log } from "@torpor/telemetry";
import { delay } from "../host/delay.ts";
import { type Controller, findHierarchies, type Hierarchy } from "./hierarchies.ts";

/** Below the root of each hierarchy, as container engines do without systemd: it outlives the agent's own cgroup. */
const PARENT = "torpor";
const CPU_PERIOD_US = 100_000;
/** Of a process, or of a cgroup that nothing was said about. */
const STANDARD_WEIGHT = { 1: 1024, 2: 100 };
const MOST_WEIGHT = { 1: 262_144, 2: 10_000 };
const WEIGHT_FILE = { 1: "cpu.shares", 2: "cpu.weight" };
/** A process that has ended may count for a moment longer. */
const REMOVAL_TRIES = 200;
const REMOVAL_RETRY_MS = 5;

/** What the processes of one cgroup may use together. */
export interface CgroupLimits {
  memoryBytes: number;
  /** CPUs; 1.5 is one and a half. */
  cpus: number;
  /** Processes and threads. */
  pids: number;
}

const PROBED: CgroupLimits = { memoryBytes: 2 ** 26, cpus: 1, pids: 8 };

/** The cgroups of one agent: one directory in each hierarchy, with a child for each virtual machine. */
export class Cgroups {
  readonly #hierarchies: { hierarchy: Hierarchy; directory: string }[];

  /** In processes that are always busy; by name. */
  readonly #weights = new Map<string, number>();

  private constructor(hierarchies: { hierarchy: Hierarchy; directory: string }[]) {
    this.#hierarchies = hierarchies;
    for (const { hierarchy: { version, controllers }, directory } of hierarchies) {
      if (!controllers.includes("cpu")) continue;
      for (const name of directoriesIn(directory)) this.#weights.set(name, readWeight(version, `${directory}/${name}`));
    }
  }

  /**
   * Finds out by doing it which limits can be set here; what cannot is logged.
   * @param mark of this agent, a directory's name. @param mountInfo text of /proc/self/mountinfo.
   */
  static open(mark: string, mountInfo: string = Deno.readTextFileSync("/proc/self/mountinfo")): Cgroups {
    const usable = findHierarchies(mountInfo, availableControllers).flatMap((hierarchy) => {
      const directory = `${hierarchy.mountPoint}/${PARENT}/${mark}`;
      try {
        prepare(hierarchy, directory);
        probe(hierarchy, directory);
        return [{ hierarchy, directory }];
      } catch (error) {
        log("warn", "cgroups_unavailable", { directory, controllers: hierarchy.controllers.join(" ") }, error);
        return [];
      }
    });
    return new Cgroups(usable);
  }

  /** What can be limited. */
  get controllers(): Controller[] {
    return this.#hierarchies.flatMap(({ hierarchy }) => hierarchy.controllers);
  }

  /** Makes a cgroup in each hierarchy. On failure there is none. @throws Deno.errors. */
  create(name: string, limits: CgroupLimits): void {
    const made: string[] = [];
    try {
      for (const { hierarchy, directory } of this.#hierarchies) {
        const group = `${directory}/${name}`;
        Deno.mkdirSync(group);
        made.push(group);
        for (const controller of hierarchy.controllers) setLimit(hierarchy.version, controller, group, limits);
      }
      this.#weights.set(name, limits.cpus);
      this.#weighParents();
    } catch (error) {
      for (const group of made) Deno.removeSync(group);
      throw error;
    }
  }

  /**
   * Puts a process into it that has just been started, and does nothing else yet. Not between clone and execve: the kernel waits for a
   * grace period, 15 ms on a busy machine, and whoever starts the process would wait as well.
   * @throws Deno.errors.
   */
  async put(name: string, pid: number): Promise<void> {
    for (const group of this.#directories(name)) {
      try {
        await Deno.writeTextFile(`${group}/cgroup.procs`, String(pid), { create: false });
      } catch (error) {
        // It has ended.
        if ((error as { code?: string }).code !== "ESRCH") throw error;
      }
    }
  }

  /** Processes that are in it. */
  members(name: string): number[] {
    const pids = this.#directories(name).flatMap((group) => readOrEmpty(`${group}/cgroup.procs`).split("\n"));
    return [...new Set(pids.filter((pid) => pid !== "").map(Number))];
  }

  /** Removes it, when its processes have ended. @returns false when there still are some. */
  async remove(name: string): Promise<boolean> {
    for (let tries = 1; !this.removeNow(name); tries++) {
      if (tries === REMOVAL_TRIES) return false;
      await delay(REMOVAL_RETRY_MS);
    }
    return true;
  }

  /** As {@linkcode remove}, without a wait. */
  removeNow(name: string): boolean {
    const removed = this.#directories(name).map(removeIfEmpty).every((removed) => removed);
    if (removed && this.#weights.delete(name)) this.#weighParents();
    return removed;
  }

  /** The cgroups that there are, of this agent and of those before it. */
  names(): string[] {
    const names = new Set<string>();
    for (const { directory } of this.#hierarchies) {
      for (const name of directoriesIn(directory)) names.add(name);
    }
    return [...names];
  }

  /** Removes what this agent has made for itself, unless something is in it. */
  close(): void {
    for (const { directory, hierarchy } of this.#hierarchies) {
      try {
        if (removeIfEmpty(directory)) removeIfEmpty(`${hierarchy.mountPoint}/${PARENT}`);
      } catch (error) {
        // Empty, and somebody else's to remove: all that this agent had in it is gone.
        if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
      }
    }
  }

  /**
   * All VMs together weigh what each of them does: with the weight of one process they would get no more than that beside everything
   * else on the machine, and with much more, one of them that spins would leave the agent little.
   */
  #weighParents(): void {
    for (const { hierarchy: { version, mountPoint, controllers }, directory } of this.#hierarchies) {
      if (!controllers.includes("cpu")) continue;
      setWeight(version, directory, sum(this.#weights.values()));
      const parent = `${mountPoint}/${PARENT}`;
      setWeight(version, parent, sum(directoriesIn(parent).map((name) => readWeight(version, `${parent}/${name}`))));
    }
  }

  #directories(name: string): string[] {
    return this.#hierarchies.map(({ directory }) => `${directory}/${name}`);
  }
}

/** Version 2 passes controllers on to children only where it is told to, from the root on. */
function prepare({ version, mountPoint, controllers }: Hierarchy, directory: string): void {
  makeDirectory(directory);
  if (version === 1) return;
  const enable = controllers.map((controller) => `+${controller}`).join(" ");
  for (const parent of [mountPoint, `${mountPoint}/${PARENT}`, directory]) {
    write(`${parent}/cgroup.subtree_control`, enable);
  }
}

/** Another agent that ends may take away the parent in between. */
function makeDirectory(directory: string): void {
  for (let tries = 1;; tries++) {
    try {
      return Deno.mkdirSync(directory, { recursive: true, mode: 0o755 });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound) || tries === 10) throw error;
    }
  }
}

/** A container may have a cgroup and yet no right to limit anything in it. */
function probe({ version, controllers }: Hierarchy, directory: string): void {
  const group = `${directory}/probe`;
  Deno.mkdirSync(group, { recursive: true });
  try {
    for (const controller of controllers) setLimit(version, controller, group, PROBED);
  } finally {
    removeIfEmpty(group);
  }
}

function setLimit(
  version: 1 | 2,
  controller: Controller,
  group: string,
  { memoryBytes, cpus, pids }: CgroupLimits,
): void {
  const set = (file: string, value: string) => write(`${group}/${file}`, value);
  const quotaUs = Math.round(cpus * CPU_PERIOD_US);
  if (controller === "pids") {
    set("pids.max", String(pids));
  } else if (controller === "memory") {
    set(version === 2 ? "memory.max" : "memory.limit_in_bytes", String(memoryBytes));
  } else {
    setWeight(version, group, cpus);
    if (version === 2) return set("cpu.max", `${quotaUs} ${CPU_PERIOD_US}`);
    set("cpu.cfs_period_us", String(CPU_PERIOD_US));
    set("cpu.cfs_quota_us", String(quotaUs));
  }
}

/** Weighs a cgroup against its siblings. @param processes as many as it is to count for. */
function setWeight(version: 1 | 2, group: string, processes: number): void {
  const weight = Math.max(Math.ceil(processes * STANDARD_WEIGHT[version]), STANDARD_WEIGHT[version]);
  write(`${group}/${WEIGHT_FILE[version]}`, String(Math.min(weight, MOST_WEIGHT[version])));
}

function readWeight(version: 1 | 2, group: string): number {
  return Number(readOrEmpty(`${group}/${WEIGHT_FILE[version]}`)) / STANDARD_WEIGHT[version];
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}

function write(path: string, value: string): void {
  Deno.writeTextFileSync(path, value, { create: false });
}

function directoriesIn(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].flatMap(({ name, isDirectory }) => isDirectory ? [name] : []);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

function availableControllers(mountPoint: string): string {
  return readOrEmpty(`${mountPoint}/cgroup.controllers`);
}

function readOrEmpty(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

function removeIfEmpty(directory: string): boolean {
  try {
    Deno.removeSync(directory);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return true;
    // Deno has no class for it.
    if ((error as { code?: string }).code === "EBUSY") return false;
    throw error;
  }
}
