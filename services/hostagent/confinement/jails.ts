import { adoptProcess, type Descriptor, makeEmptyNetwork, makeRoot, NativeError, processStartTime } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import { log } from "@torpor/telemetry";
import type { JailRecord } from "./jail_record.ts";
import { Cgroups } from "./cgroups.ts";
import { type Confined, Jail, type JailParts, PAGER_THREADS, VMM_THREADS } from "./jail.ts";
import { usableMeasures } from "./usable.ts";
import { type LeasedUser, Users } from "./users.ts";

/** Where confined programs find the native files. */
const NATIVE_DIRECTORY = "/torpor";
/** Nothing but programs, their libraries, and the cache that names these. */
const ROOT_PATHS = ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache"];
/** Of a VMM beside its guest's memory: translated code (up to 1 GiB with TCG), devices, and its files in the page cache. */
const OVERHEAD_MB = { kvm: 256, tcg: 1024 + 256 };
/** For what a VMM does besides running vCPUs, and for its pager. */
const OVERHEAD_CPUS = 0.5;
/** Base pagers' cgroups have names of their own: their processes may outlive agents, and end by themselves. */
const BASE_PREFIX = "base-";
/** A base pager beside its base, bytes. */
const BASE_OVERHEAD_BYTES = 2 ** 27;
const BASE_CPUS = 2;
const OWN_PROCESSES = { ownProcesses: true };
const SIGKILL = 9;

/** What confinement needs to know of the agent. */
export interface JailsOptions {
  /** The data directory. */
  home: string;
  nativeDirectory: string;
  accelerator: "kvm" | "tcg";
  /** The first of the users that VMMs run as; 0: they run as the agent's. */
  userBase: number;
}

/**
 * What VMMs and pagers of this host run in (docs/decisions/0027-confinement.md). What this host does not let the agent take from them,
 * for example as it is not root, is logged, and missing among the `capabilities`.
 */
export class Jails implements AsyncDisposable {
  readonly #parts: JailParts;
  readonly #users: Users | undefined;
  readonly #accelerator: "kvm" | "tcg";
  readonly #opened: AsyncDisposableStack;

  private constructor(
    parts: JailParts,
    users: Users | undefined,
    accelerator: "kvm" | "tcg",
    opened: AsyncDisposableStack,
  ) {
    this.#parts = parts;
    this.#users = users;
    this.#accelerator = accelerator;
    this.#opened = opened;
  }

  /** Finds out what this host can do. */
  static async open({ home, nativeDirectory, accelerator, userBase }: JailsOptions): Promise<Jails> {
    await using opened = new AsyncDisposableStack();
    const isRoot = Deno.uid() === 0;
    const root = isRoot ? unlessRefused("root", () => opened.use(openRoot(nativeDirectory))) : undefined;
    const network = isRoot ? unlessRefused("network", () => opened.use(makeEmptyNetwork())) : undefined;
    const users = isRoot && userBase > 0 ? unlessRefused("user", () => Users.open(userBase)) : undefined;
    const usable = await usableMeasures<Confined>({
      ...root &&
        { root: { confinement: { rootFd: root.fd, ownIpc: true } }, processes: { confinement: OWN_PROCESSES } },
      ...network && { network: { confinement: { networkFd: network.fd } } },
      ...users && { user: { uid: userBase, gid: userBase, confinement: {} } },
      ...isRoot && { capabilities: { confinement: { dropCapabilities: true } } },
      system_calls: { confinement: { filterSystemCalls: true } },
    });
    const parts = {
      usable,
      root: usable.has("root") ? root : undefined,
      network: usable.has("network") ? network : undefined,
      cgroups: Cgroups.open(await markOf(home)),
      nativeDirectory: usable.has("root") ? NATIVE_DIRECTORY : nativeDirectory,
    };
    const jails = new Jails(parts, usable.has("user") ? users : undefined, accelerator, opened.move());
    log("info", "confinement", { capabilities: jails.capabilities.join(" ") });
    return jails;
  }

  /** What VMMs of this host are kept from, as the scheduler and the operator see it. */
  get capabilities(): string[] {
    const { usable, cgroups } = this.#parts;
    return [
      ...[...usable].map((name) => `confined:${name}`),
      ...cgroups.controllers.map((controller) => `limited:${controller}`),
    ];
  }

  /** For a new VMM and its pager. @throws NativeError, Deno.errors; then nothing is left of it. */
  create({ vcpus, memoryMb }: { vcpus: number; memoryMb: number }): Jail {
    const limits = {
      memoryBytes: (memoryMb + OVERHEAD_MB[this.#accelerator]) * 2 ** 20,
      cpus: vcpus + OVERHEAD_CPUS,
      pids: VMM_THREADS + PAGER_THREADS + vcpus,
    };
    return this.#make(newId(), limits, { vmm: this.#users?.take(), pager: this.#users?.take() });
  }

  /** For a base pager: what it runs in is left to it when it ends. @param mark of the base. @throws as above. */
  createBase(mark: string, memoryBytes: number): Jail {
    const limits = { memoryBytes: memoryBytes + BASE_OVERHEAD_BYTES, cpus: BASE_CPUS, pids: 2 * PAGER_THREADS };
    return this.#make(`${BASE_PREFIX}${mark}`, limits, { pager: this.#users?.take() });
  }

  /** Removes what a base pager ran in, if both of its processes have ended. */
  removeBase(mark: string): void {
    this.#parts.cgroups.removeNow(`${BASE_PREFIX}${mark}`);
  }

  /** Takes over what a VMM of an earlier agent runs in. @throws NativeError. */
  adopt({ name, vmm_user, pager_user }: JailRecord): Jail {
    const keep = (id: number | null) => id === null ? undefined : this.#users?.keep(id);
    return new Jail(this.#parts, name, { vmm: keep(vmm_user), pager: keep(pager_user) });
  }

  /** Ends what is in cgroups that nobody has any more, and removes them. @param used names of those that are. */
  async sweep(used: ReadonlySet<string>): Promise<void> {
    const { cgroups } = this.#parts;
    for (const name of cgroups.names()) {
      if (used.has(name)) continue;
      if (name.startsWith(BASE_PREFIX)) {
        cgroups.removeNow(name);
        continue;
      }
      for (const pid of cgroups.members(name)) await kill(pid);
      if (!await cgroups.remove(name)) log("warn", "cgroup_not_removed", { name });
    }
  }

  /** Lets go of what is the agent's own; who runs in a jail runs on. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of this.#parts.cgroups.names()) {
      if (name.startsWith(BASE_PREFIX)) this.#parts.cgroups.removeNow(name);
    }
    this.#parts.cgroups.close();
    await this.#opened.disposeAsync();
  }

  #make(name: string, limits: Parameters<Cgroups["create"]>[1], users: { vmm?: LeasedUser; pager?: LeasedUser }): Jail {
    try {
      this.#parts.cgroups.create(name, limits);
      return new Jail(this.#parts, name, users);
    } catch (error) {
      users.vmm?.[Symbol.dispose]();
      users.pager?.[Symbol.dispose]();
      throw error;
    }
  }
}

function openRoot(nativeDirectory: string): Descriptor {
  const content: Record<string, string> = { [NATIVE_DIRECTORY]: Deno.realPathSync(nativeDirectory) };
  for (const path of ROOT_PATHS) if (exists(path)) content[path] = path;
  return makeRoot(content);
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function unlessRefused<T>(what: string, make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    log("warn", "confinement_unavailable", { what }, error);
    return undefined;
  }
}

async function kill(pid: number): Promise<void> {
  try {
    await using process = adoptProcess({ pid, startTime: processStartTime(pid), commandLineIncludes: "" });
    if (process?.signal(SIGKILL)) log("warn", "stray_process_killed", { pid });
  } catch (error) {
    // It has ended meanwhile.
    if (!(error instanceof NativeError && error.code === "native_enoent")) throw error;
  }
}

/** Names the agent's directory among those of other agents of the machine. */
async function markOf(home: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(home));
  return [...new Uint8Array(digest).subarray(0, 6)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
