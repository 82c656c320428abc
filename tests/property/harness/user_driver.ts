import {
  type Descriptor,
  fileIdentity,
  memfdCreate,
  nativeFiles,
  openFile,
  type Process,
  socketPair,
  spawn,
} from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import type { VmmIdentity } from "@torpor/snapshot";
import type { SandboxPaths } from "../../../services/hostagent/storage/layout.ts";
import {
  type BootSource,
  type PagerLink,
  type Vmm,
  VMM_MEMORY_FD,
  type VmmCapabilities,
  type VmmConfig,
  type VmmDriver,
} from "../../../services/hostagent/vmm/driver.ts";
import { copyImage, type GuestImage } from "./guest_image.ts";
import { SilentGuest } from "./silent_guest.ts";
import { freshRegisters, UserVmm } from "./user_vmm.ts";

const USERFAULTFD_DEVICE_FD = 4;
const PAGER_SOCKET_FD = 5;
const WINDOW_FD = 6;
const CONTROL_FD = 7;
const BASE_FD = 8;
const SIGKILL = 9;

/** Starts user_vmm instead of QEMU: everything around it is what a host agent has. */
export class UserDriver implements VmmDriver {
  readonly identity: VmmIdentity = {
    driver: "user",
    version: "1.0",
    machine: "memory",
    cpu_model: "none",
    accelerator: "tcg",
    host_cpu: "",
  };
  readonly capabilities: VmmCapabilities = {
    lazyRestore: true,
    diffSnapshots: true,
    sharedBase: true,
    liveCheckpoint: true,
    balloon: true,
    vsock: false,
  };
  /** The VM of each sandbox, newest first start wins. */
  readonly vms = new Map<string, UserVmm>();
  /** What the next restore of a sandbox must find. */
  readonly expected = new Map<string, GuestImage>();
  readonly #program: string;

  /** @param program the compiled user_vmm. */
  constructor(program: string) {
    this.#program = program;
  }

  async boot(config: VmmConfig, { userfaultfdDeviceFd: device }: BootSource): Promise<Vmm> {
    const disk = await Deno.readFile(config.paths.disk);
    const memory = new Uint8Array(config.memoryMb * 2 ** 20);
    const image = { memory, disk, registers: freshRegisters() };
    if (device === undefined) return await this.#start(config, image, {}, []);
    const environment = { ...shimEnvironment(config), TORPOR_SHIM_TRACK: "1" };
    return await this.#start(config, image, environment, [{ childFd: USERFAULTFD_DEVICE_FD, fd: device }]);
  }

  async restore(config: VmmConfig, link: PagerLink): Promise<Vmm> {
    const image = this.expected.get(config.sandboxId);
    if (!image) throw new TorporError("internal", "the chain did not say what it expects");
    const environment = {
      ...shimEnvironment(config),
      TORPOR_SHIM_SOCKET_FD: String(PAGER_SOCKET_FD),
      TORPOR_SHIM_TRACK: link.tracking ? "1" : "0",
      ...(link.baseFd === undefined ? {} : { TORPOR_SHIM_BASE_FD: String(BASE_FD) }),
    };
    const descriptors = [
      { childFd: USERFAULTFD_DEVICE_FD, fd: link.userfaultfdDeviceFd },
      { childFd: PAGER_SOCKET_FD, fd: link.socketFd },
      ...(link.baseFd === undefined ? [] : [{ childFd: BASE_FD, fd: link.baseFd }]),
    ];
    return await this.#start(config, copyImage(image), environment, descriptors);
  }

  async adopt(_process: Process, _paths: SandboxPaths, _commandLineMark: string): Promise<Vmm> {
    throw new TorporError("vm_gone", "a VM of this driver ends with its agent");
  }

  commandLineMark(paths: SandboxPaths): string {
    return paths.directory;
  }

  requireCompatible(identity: VmmIdentity): void {
    if (identity.driver !== this.identity.driver) throw new TorporError("resume_failed", "not of this driver");
  }

  async #start(
    config: VmmConfig,
    image: GuestImage,
    environment: Record<string, string>,
    descriptors: { childFd: number; fd: number }[],
  ): Promise<UserVmm> {
    const size = image.memory.length;
    const window = memfdCreate("window", size);
    const [control, theirControl] = socketPair();
    const guest = new SilentGuest(config.paths.agentSocket);
    const process = this.#spawn(config, environment, [
      { childFd: VMM_MEMORY_FD, fd: config.memoryFd },
      { childFd: WINDOW_FD, fd: window.fd },
      { childFd: CONTROL_FD, fd: theirControl.fd },
      ...descriptors,
    ]);
    theirControl.close();
    const commandLineMark = this.commandLineMark(config.paths);
    const privateMemory = environment.TORPOR_SHIM_BASE_FD !== undefined;
    const parts = {
      process,
      control,
      window,
      diskPath: config.paths.disk,
      guest,
      commandLineMark,
      image,
      privateMemory,
    };
    const vmm = new UserVmm(parts);
    try {
      // Like a monitor's first answer: it has mapped its memory by then.
      await vmm.stopVcpus();
    } catch (cause) {
      await vmm[Symbol.asyncDispose]();
      throw new TorporError("vm_start_failed", "the VMM ended while it started", { cause });
    }
    this.vms.set(config.sandboxId, vmm);
    return vmm;
  }

  #spawn(
    { paths, memoryMb }: VmmConfig,
    env: Record<string, string>,
    descriptors: { childFd: number; fd: number }[],
  ): Process {
    using errors: Descriptor = openFile(paths.vmmLog, { write: true, create: true, truncate: true });
    const numbers = [VMM_MEMORY_FD, WINDOW_FD, memoryMb * 2 ** 20, CONTROL_FD].map(String);
    // The extra argument is what a process table knows a sandbox's VMM by.
    const argv = [this.#program, ...numbers, paths.directory];
    return spawn({
      path: this.#program,
      argv,
      env,
      cwd: "/",
      descriptors,
      stderrFd: errors.fd,
      noNewPrivileges: true,
      deathSignal: SIGKILL,
    });
  }
}

function shimEnvironment({ memoryFd, memoryMb }: VmmConfig): Record<string, string> {
  const { device, inode } = fileIdentity(memoryFd);
  return {
    LD_PRELOAD: nativeFiles().shim,
    TORPOR_SHIM_MEMFD_DEV: String(device),
    TORPOR_SHIM_MEMFD_INO: String(inode),
    TORPOR_SHIM_SIZE: String(memoryMb * 2 ** 20),
    TORPOR_SHIM_UFFD_DEVICE_FD: String(USERFAULTFD_DEVICE_FD),
  };
}
