import { scaledTimeoutMs } from "@torpor/config";
import { fileIdentity, NativeError, nativeFiles, openFile, type Process, spawn } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import type { VmmIdentity } from "@torpor/snapshot";
import type { SandboxPaths } from "../../storage/layout.ts";
import type { BootSource, PagerLink, Vmm, VmmCapabilities, VmmConfig, VmmDriver } from "../driver.ts";
import { describeExit } from "../process.ts";
import {
  type Accelerator,
  bootArguments,
  commandLineMark,
  cpuModel,
  type DiskLimits,
  MACHINE_IDENTITY,
  restoreArguments,
} from "./command_line.ts";
import { QemuVmm } from "./vmm.ts";
import { VMM_FDS, VmmFiles } from "./vmm_files.ts";

/** Starting QEMU takes 30 to 45 ms; this is for a host that is overloaded. */
const START_TIMEOUT_MS = scaledTimeoutMs(30_000);

/** What the driver learned of this host when the agent started. */
export interface QemuHost {
  /** Absolute path of qemu-system-x86_64. */
  program: string;
  /** E.g. "7.2.22". */
  version: string;
  accelerator: Accelerator;
  /** Model name of the host's CPU. */
  hostCpu: string;
  /** Frequency of the host's time-stamp counter. */
  hostTscKhz: number;
  /** Directory of torpor-shim.so. */
  nativeDirectory: string;
  /** What each writable disk may do at most. */
  diskLimits?: DiskLimits;
}

/** Debian's QEMU: microvm machine, host-owned memory, device state by migration to a descriptor. */
export class QemuDriver implements VmmDriver {
  readonly identity: VmmIdentity;
  readonly capabilities: VmmCapabilities = {
    lazyRestore: true,
    diffSnapshots: true,
    sharedBase: true,
    liveCheckpoint: true,
    balloon: true,
    vsock: false,
  };
  readonly #host: QemuHost;

  constructor(host: QemuHost) {
    this.#host = host;
    this.identity = {
      driver: "qemu",
      version: host.version,
      machine: MACHINE_IDENTITY,
      cpu_model: cpuModel(host.accelerator),
      accelerator: host.accelerator,
      host_cpu: host.accelerator === "kvm" ? host.hostCpu : "",
    };
  }

  async boot(config: VmmConfig, source: BootSource, signal: AbortSignal): Promise<Vmm> {
    const { hostTscKhz } = this.#host;
    using files = openFiles(config, source);
    const args = bootArguments(config, this.#host, hostTscKhz);
    const { userfaultfdDeviceFd: device } = source;
    if (device === undefined) return await this.#start(config, args, {}, files, signal);
    const environment = { ...this.#shimEnvironment(config), TORPOR_SHIM_TRACK: "1" };
    files.descriptors.push({ childFd: VMM_FDS.userfaultfdDevice, fd: device });
    return await this.#start(config, args, environment, files, signal);
  }

  async restore(config: VmmConfig, pager: PagerLink, signal: AbortSignal): Promise<Vmm> {
    const environment = {
      ...this.#shimEnvironment(config),
      TORPOR_SHIM_SOCKET_FD: String(VMM_FDS.pagerSocket),
      TORPOR_SHIM_TRACK: pager.tracking ? "1" : "0",
      ...(pager.baseFd === undefined ? {} : { TORPOR_SHIM_BASE_FD: String(VMM_FDS.sharedBase) }),
    };
    using files = openFiles(config);
    files.descriptors.push(
      { childFd: VMM_FDS.userfaultfdDevice, fd: pager.userfaultfdDeviceFd },
      { childFd: VMM_FDS.pagerSocket, fd: pager.socketFd },
      ...(pager.baseFd === undefined ? [] : [{ childFd: VMM_FDS.sharedBase, fd: pager.baseFd }]),
    );
    return await this.#start(config, restoreArguments(config, this.#host), environment, files, signal);
  }

  async adopt(process: Process, paths: SandboxPaths, commandLineMark: string): Promise<Vmm> {
    const vmm = await QemuVmm.connect(process, paths, commandLineMark, AbortSignal.timeout(START_TIMEOUT_MS));
    try {
      await vmm.findDiskFault();
      return vmm;
    } catch (error) {
      await vmm[Symbol.asyncDispose]();
      throw error;
    }
  }

  commandLineMark(paths: SandboxPaths): string {
    return commandLineMark(paths);
  }

  requireCompatible(identity: VmmIdentity): void {
    const here = this.identity;
    const sameSeries = series(identity.version) === series(here.version);
    const differs: [string, string, string][] = [
      ["VMM", identity.driver, here.driver],
      ["VMM version", identity.version, sameSeries ? identity.version : here.version],
      ["machine", identity.machine, here.machine],
      ["CPU model", identity.cpu_model, here.cpu_model],
      ["accelerator", identity.accelerator, here.accelerator],
      ["host CPU", identity.host_cpu, here.host_cpu],
    ];
    for (const [what, theirs, ours] of differs) {
      if (theirs === ours) continue;
      throw new TorporError("resume_failed", `the snapshot needs ${what} "${theirs}", this host has "${ours}"`);
    }
  }

  #shimEnvironment({ memoryFd, memoryMb }: VmmConfig): Record<string, string> {
    const { device, inode } = fileIdentity(memoryFd);
    return {
      TORPOR_SHIM_MEMFD_DEV: String(device),
      TORPOR_SHIM_MEMFD_INO: String(inode),
      TORPOR_SHIM_SIZE: String(memoryMb * 2 ** 20),
      TORPOR_SHIM_UFFD_DEVICE_FD: String(VMM_FDS.userfaultfdDevice),
    };
  }

  async #start(
    config: VmmConfig,
    args: string[],
    environment: Record<string, string>,
    files: VmmFiles,
    signal: AbortSignal,
  ): Promise<Vmm> {
    const { paths, memoryFd, tapFd, diskBytes, memoryMb, jail } = config;
    const { memory, tap } = VMM_FDS;
    files.descriptors.push(
      { childFd: memory, fd: memoryFd },
      ...tapFd === undefined ? [] : [{ childFd: tap, fd: tapFd }],
    );
    // What it writes is its disk, and a copy or a device state for the agent.
    using seat = jail?.vmm(VMM_FDS.lease, Math.max(diskBytes, memoryMb * 2 ** 20));
    const { shim } = nativeFiles(seat?.nativeDirectory ?? this.#host.nativeDirectory);
    const process = spawnLogged(paths.vmmLog, (stderrFd) =>
      spawn({
        path: this.#host.program,
        argv: [this.#host.program, ...args],
        env: "TORPOR_SHIM_SIZE" in environment ? { ...environment, LD_PRELOAD: shim } : environment,
        cwd: "/",
        descriptors: [...files.descriptors, ...seat?.descriptors ?? []],
        stderrFd,
        noNewPrivileges: true,
        ...seat?.options,
      }));
    seat?.taken(process);
    // From here on the VMM has the only listening ends: when it ends, so do its connections.
    files[Symbol.dispose]();
    try {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(START_TIMEOUT_MS)]);
      return await QemuVmm.connect(process, paths, this.commandLineMark(paths), limit);
    } catch (cause) {
      // connect has killed the process: what it said before is the reason.
      signal.throwIfAborted();
      const exit = describeExit(await process.exited);
      const said = (await Deno.readTextFile(paths.vmmLog)).slice(-1000).trim();
      throw new TorporError("vm_start_failed", `the VMM ended with ${exit} while it started: ${said}`, { cause });
    }
  }
}

function openFiles(config: VmmConfig, source?: BootSource): VmmFiles {
  try {
    return new VmmFiles(config, source);
  } catch (cause) {
    if (!(cause instanceof NativeError)) throw cause;
    throw new TorporError("vm_start_failed", `a file of the VMM cannot be opened: ${cause.message}`, { cause });
  }
}

/** Point releases, as Debian's security updates are, keep the format of the device state. */
function series(version: string): string {
  return version.split(".").slice(0, 2).join(".");
}

function spawnLogged(path: string, start: (stderrFd: number) => Process): Process {
  using file = openFile(path, { write: true, create: true, truncate: true });
  return start(file.fd);
}
