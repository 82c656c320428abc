import type { Process } from "@torpor/ffi";
import type { VmmIdentity } from "@torpor/snapshot";
import type { Jail } from "../confinement/jail.ts";
import type { SandboxPaths } from "../storage/layout.ts";

/** What a VMM can do. Callers ask this table, never the driver's name. */
export interface VmmCapabilities {
  /** Guest memory can be served page by page after the resume. */
  lazyRestore: boolean;
  /** A pause can store only what changed since the parent. */
  diffSnapshots: boolean;
  /** Siblings of one snapshot can share its clean pages. */
  sharedBase: boolean;
  /** A checkpoint can be taken while the guest runs. */
  liveCheckpoint: boolean;
  balloon: boolean;
  vsock: boolean;
}

/** What a VM is made of, the same for a boot and for every later restore. */
export interface VmmConfig {
  sandboxId: string;
  paths: SandboxPaths;
  vcpus: number;
  memoryMb: number;
  /** The memfd with the guest's RAM; the caller keeps it. */
  memoryFd: number;
  /** Size of the writable disk; its file may be being filled, and shorter, when the VMM starts. */
  diskBytes: number;
  /** Read-only base image, shared by many sandboxes. */
  baseImage: string;
  /**
   * The tap device behind the guest's network device; the caller keeps it. Absent: the device is there all the same, so that
   * a snapshot fits, and leads nowhere.
   */
  tapFd?: number;
  /** What the VMM runs in; the caller keeps it. Absent: it runs as the agent's user, and sees what that sees. */
  jail?: Jail;
}

/** Kernel and initramfs of a boot. */
export interface BootSource {
  kernel: string;
  initramfs: string;
  /**
   * A descriptor of /dev/userfaultfd, which stays the caller's: the VMM registers its memory, so that its writes can be
   * tracked later. Absent: they cannot.
   */
  userfaultfdDeviceFd?: number;
}

/** How a restored VMM reaches its pager. Both descriptors stay the caller's. */
export interface PagerLink {
  userfaultfdDeviceFd: number;
  socketFd: number;
  /** Write protection is armed, so that the kernel remembers which pages are written. */
  tracking: boolean;
  /** A memory file that the VMM maps privately as the guest's memory, in the place of its own. */
  baseFd?: number;
}

/** A copy of the writable disk that is made while the guest runs. Disposing it gives it up, unless it was finished. */
export interface DiskCopy extends AsyncDisposable {
  /** Resolves once the copy has caught up; from then on each write of the guest goes to both. Rejects when it fails. */
  readonly inStep: Promise<void>;
  /**
   * Ends the copy when it is in step: the file is the disk of this moment, not synced. The vCPUs must be stopped, and the
   * device state not saved yet.
   * @throws TorporError `vm_gone`, `deadline_exceeded`, `no_space`, `internal` when the copy has failed; NativeError.
   */
  finish(): Promise<void>;
}

/**
 * Why a VMM has stopped its guest by itself: the file system of the writable disk is full, or a write to it has failed for
 * another reason. The write is not lost: it is tried again when the vCPUs are started.
 */
export type DiskFault = "no_space" | "io_error";

/** Descriptors have these numbers inside a VMM. */
export const VMM_MEMORY_FD = 3;

/**
 * A VM process. Created stopped: after a boot `startVcpus` begins the boot, after a restore `loadDeviceState` must come
 * first. Disposing it kills the process and waits for its end.
 */
export interface Vmm extends AsyncDisposable {
  readonly process: Process;
  /** @throws TorporError `vm_gone`, `deadline_exceeded`. */
  startVcpus(): Promise<void>;
  /** @throws TorporError `vm_gone`, `deadline_exceeded`. */
  stopVcpus(): Promise<void>;
  /** Whether vCPUs run. @throws TorporError `vm_gone`, `deadline_exceeded`. */
  isRunning(): Promise<boolean>;
  /**
   * Plugs the cable of the guest's network device in or out. A restored device has it as it was when its state was saved.
   * @throws TorporError `vm_gone`, `deadline_exceeded`.
   */
  setLink(up: boolean): Promise<void>;
  /** Does what can be done for `saveDeviceState` before the vCPUs stop. @throws as that. */
  prepareDeviceState(): Promise<void>;
  /** Why the VMM has stopped the guest by itself, as far as it has said; undefined: it has not. */
  readonly diskFault: DiskFault | undefined;
  /** Calls `listener` whenever `diskFault` has changed, until the result is disposed. */
  onDiskFault(listener: (fault: DiskFault | undefined) => void): Disposable;
  /**
   * Writes the state of the devices, without RAM, to a descriptor that the caller keeps. The vCPUs must be stopped. The VMM
   * may write to guest RAM meanwhile, so RAM is saved afterwards.
   * @throws TorporError `vm_gone`, `deadline_exceeded`, `internal` when the VMM refuses.
   */
  saveDeviceState(fd: number): Promise<void>;
  /** Reads what `saveDeviceState` wrote. @throws TorporError `resume_failed` when the VMM refuses it. */
  loadDeviceState(fd: number): Promise<void>;
  /**
   * Begins to copy the writable disk to an empty file of its size that is open for reading and writing; the caller keeps `fd`.
   * @throws TorporError `vm_gone`, `deadline_exceeded`, `internal` when the VMM refuses.
   */
  copyDisk(fd: number): Promise<DiskCopy>;
  /** Lets go of the process: it runs on without this agent. */
  release(): Promise<void>;
  /** The part of its command line by which a later agent recognises the process. */
  readonly commandLineMark: string;
}

/** One kind of VMM on this host. */
export interface VmmDriver {
  /** Recorded with every snapshot; a snapshot of an incompatible one is refused. */
  readonly identity: VmmIdentity;
  readonly capabilities: VmmCapabilities;
  /** Starts a VMM that will boot a kernel. @throws TorporError `vm_start_failed`. */
  boot(config: VmmConfig, source: BootSource, signal: AbortSignal): Promise<Vmm>;
  /** Starts a VMM that waits for a device state; its RAM is served by a pager. @throws TorporError `vm_start_failed`. */
  restore(config: VmmConfig, pager: PagerLink, signal: AbortSignal): Promise<Vmm>;
  /** Takes over a VMM that an earlier agent started; its `diskFault` is known then. @throws TorporError `vm_gone` when it does not answer. */
  adopt(process: Process, paths: SandboxPaths, commandLineMark: string): Promise<Vmm>;
  /** A part of the command line that only the VMM started with these paths has. */
  commandLineMark(paths: SandboxPaths): string;
  /** @throws TorporError `resume_failed` with the reason when a snapshot of `identity` cannot run here. */
  requireCompatible(identity: VmmIdentity): void;
}
