import { GUEST_NETWORK } from "../../network/types.ts";
import type { SandboxPaths } from "../../storage/layout.ts";
import type { VmmConfig } from "../driver.ts";
import { VMM_FDS } from "./vmm_files.ts";

/** Accelerators that QEMU is used with. */
export type Accelerator = "kvm" | "tcg";

/**
 * ACPI is needed: Debian's kernel finds virtio-mmio devices only there. PIT, PIC and option
 * ROMs only make the boot slower.
 */
export const MACHINE = "microvm,acpi=on,rtc=on,pit=off,pic=off,x-option-roms=off";

/**
 * Gives freed guest memory back to the host: the guest reports pages that it has freed, in blocks, and the VMM punches them
 * out of the memory file (on a lazily restored VM the pager learns of it by an event). Nobody inflates it.
 */
const BALLOON = "virtio-balloon-device,free-page-reporting=on";

/** QEMU's name for what is behind the network device. */
export const NETWORK_BACKEND = "net";

/**
 * What the tap device takes off the guest's hands (checksums, segmentation) makes a guest's traffic three to seven times as
 * fast (measured with TCG). UFO is left out, as not each kernel's tap has it. The guest keeps its addresses when it moves, and
 * its new slot asks for them: nothing is to be announced.
 */
const NETWORK =
  `virtio-net-device,netdev=${NETWORK_BACKEND},mac=${GUEST_NETWORK.mac},guest_ufo=off,host_ufo=off,guest_announce=off`;

/** Recorded in each snapshot: a device state fits only the machine with the same devices. */
export const MACHINE_IDENTITY = `${MACHINE};${BALLOON};${NETWORK}`;

/** Denies what a VMM that got all its descriptors from the agent never needs. */
const SECCOMP = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/** The port that the guest agent looks for (proto/guest/v1/guest.proto). */
const AGENT_PORT = "torpor.agent.0";

/** The CPU model that guests see. */
export function cpuModel(accelerator: Accelerator): string {
  // Without ERMS a guest's memcpy takes vector moves, which TCG runs about six times as fast as REP MOVSB; without LA57
  // each miss of its TLB walks four levels of page tables instead of five.
  return accelerator === "kvm" ? "host" : "max,-erms,-la57";
}

/** What one disk may do at most; 0: no limit. */
export interface DiskLimits {
  /** Reads and writes together, a second. */
  iops: number;
  /** Of 10^6 bytes, reads and writes together. */
  megabytesPerSecond: number;
}

/** What is the same for all VMs of a host. */
export interface HostArguments {
  accelerator: Accelerator;
  diskLimits?: DiskLimits;
}

/** Arguments of a VMM that waits in `-S` and then boots. `hostTscKhz` is needed with TCG only. */
export function bootArguments(config: VmmConfig, host: HostArguments, hostTscKhz: number): string[] {
  const { accelerator } = host;
  return [
    ...machineArguments(config, host),
    "-S",
    ...["-kernel", inherited(VMM_FDS.kernel), "-initrd", inherited(VMM_FDS.initramfs)],
    ...["-append", kernelCommandLine(accelerator, hostTscKhz)],
  ];
}

/** Arguments of a VMM that waits for a device state. Kernel and initramfs are part of the restored memory. */
export function restoreArguments(config: VmmConfig, host: HostArguments): string[] {
  // The capability x-ignore-shared can only be set over QMP, so the incoming migration must be deferred.
  return [...machineArguments(config, host), "-incoming", "defer"];
}

/**
 * TCG keeps translated code by address, so with randomised addresses each program start translates ld.so and libc anew (most
 * of its 30 ms, measured). It is no security boundary, inside the guest as little as around it: KVM guests keep both.
 */
const TCG_PARAMETERS = ["norandmaps", "mitigations=off", "tsc=reliable", "no_timer_check"];

/**
 * Guests report freed memory in blocks of 2^5 pages (128 KiB) instead of 2^9: after dropping the caches 149 of 239 MiB left
 * the host instead of 130 (measured), as what is freed piece by piece rarely joins to 2 MiB.
 */
const REPORTING = "page_reporting.page_reporting_order=5";

/** A kernel command line without output that costs boot time under TCG. */
export function kernelCommandLine(accelerator: Accelerator, hostTscKhz: number, extra: string[] = []): string {
  return [
    "console=ttyS0 quiet loglevel=3 panic=-1 random.trust_cpu=on cryptomgr.notests audit=0 apparmor=0",
    // A microvm has no timer to calibrate the TSC against, and TCG's guest TSC follows the host's.
    REPORTING,
    ...(accelerator === "tcg" ? [...TCG_PARAMETERS, `tsc_early_khz=${hostTscKhz}`] : []),
    ...extra,
  ].join(" ");
}

/** Device order matters: the first disk is /dev/vda (base), the second /dev/vdb (writable). */
function machineArguments(config: VmmConfig, { accelerator, diskLimits }: HostArguments): string[] {
  const { paths } = config;
  return [
    ...commonArguments(accelerator),
    // Nobody but the agent reads it: by it the process is found again.
    ...["-name", `guest=${escapeComma(commandLineMark(paths))}`],
    ...["-M", `${MACHINE},memory-backend=ram`],
    ...["-smp", String(config.vcpus), "-m", `${config.memoryMb}M`],
    "-object",
    `memory-backend-file,id=ram,size=${config.memoryMb}M,mem-path=${inherited(VMM_FDS.memory)},share=on`,
    ...["-chardev", socketChardev("qmp", VMM_FDS.qmp), "-mon", "chardev=qmp,mode=control"],
    ...["-chardev", socketChardev("console", VMM_FDS.console), "-serial", "chardev:console"],
    ...["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-device,rng=rng"],
    ...["-device", "virtio-serial-device", "-chardev", socketChardev("agent", VMM_FDS.agent)],
    ...["-device", `virtserialport,chardev=agent,name=${AGENT_PORT}`],
    ...fileArguments("base", VMM_FDS.baseImage, "read-only=on"),
    ...diskArguments("base", "base-file", "read-only=on"),
    ...fileArguments("disk", VMM_FDS.disk, "discard=unmap"),
    ...throttleArguments(diskLimits),
    ...diskArguments(
      "disk",
      isLimited(diskLimits) ? THROTTLE : "disk-file",
      "discard=unmap,detect-zeroes=unmap",
      DISK_ERRORS,
    ),
    ...["-device", BALLOON],
    ...["-netdev", networkBackend(config), "-device", NETWORK],
  ];
}

/** Without a tap device there are no offloads: a guest that uses them can then not be restored, and QEMU says so. */
function networkBackend({ tapFd }: VmmConfig): string {
  return tapFd === undefined
    ? `hubport,id=${NETWORK_BACKEND},hubid=0`
    : `tap,id=${NETWORK_BACKEND},fd=${VMM_FDS.tap},vhost=off`;
}

/** What every QEMU that the agent starts has in common. */
export function commonArguments(accelerator: Accelerator): string[] {
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot"],
    ...["-sandbox", SECCOMP],
    ...["-accel", accelerator === "tcg" ? "tcg,thread=multi" : "kvm", "-cpu", cpuModel(accelerator)],
  ];
}

/** A part of the command line that only the VMM has that was started with these paths. */
export function commandLineMark({ directory }: SandboxPaths): string {
  return `${directory}/`;
}

/** A unix socket that listens already; while nobody is connected, output is dropped. */
function socketChardev(id: string, fd: number): string {
  return `socket,id=${id},fd=${fd},server=on,wait=off`;
}

/** A file that QEMU opens once more, with the rights of its own user. */
function inherited(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** docs/decisions/0022-guest-disk-errors.md: a write that fails stops the guest, a read that fails is told to it. */
const DISK_ERRORS = ",werror=stop,rerror=report";

/** The open file is used as it is: its name says nothing to the VMM, and its mode keeps it from opening it. */
function fileArguments(name: string, fd: number, options: string): string[] {
  return [
    ...["-add-fd", `set=${fd},fd=${fd}`],
    ...["-blockdev", `driver=file,node-name=${name}-file,filename=/dev/fdset/${fd},${options}`],
  ];
}

/** QEMU's names for the limit and for the layer of the disk that keeps it. */
const THROTTLE_GROUP = "disk-limits";
const THROTTLE = "disk-throttle";

/** Below the image format, so that what a copy of the disk reads counts as well. */
function throttleArguments(limits: DiskLimits | undefined): string[] {
  if (!isLimited(limits)) return [];
  const { iops, megabytesPerSecond } = limits;
  const most = { "iops-total": iops, "bps-total": megabytesPerSecond * 1_000_000 };
  return [
    ...["-object", JSON.stringify({ "qom-type": "throttle-group", id: THROTTLE_GROUP, limits: most })],
    ...["-blockdev", `driver=throttle,node-name=${THROTTLE},throttle-group=${THROTTLE_GROUP},file=disk-file`],
  ];
}

function isLimited(limits: DiskLimits | undefined): limits is DiskLimits {
  return limits !== undefined && (limits.iops > 0 || limits.megabytesPerSecond > 0);
}

function diskArguments(name: string, file: string, raw: string, device = ""): string[] {
  return [
    ...["-blockdev", `driver=raw,node-name=${name},file=${file},${raw}`],
    ...["-device", `virtio-blk-device,drive=${name}${device}`],
  ];
}

/** QEMU's option syntax: a comma in a value is written twice. */
function escapeComma(value: string): string {
  return value.replaceAll(",", ",,");
}
