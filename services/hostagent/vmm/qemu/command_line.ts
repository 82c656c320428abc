import { GUEST_NETWORK } from "../../network/types.ts";
import { type BootSource, VMM_MEMORY_FD, type VmmConfig } from "../driver.ts";

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

/** The tap device's descriptor inside QEMU. */
export const TAP_FD = 7;

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

/** Arguments of a VMM that waits in `-S` and then boots. `hostTscKhz` is needed with TCG only. */
export function bootArguments(
  config: VmmConfig,
  source: BootSource,
  accelerator: Accelerator,
  hostTscKhz: number,
): string[] {
  return [
    ...machineArguments(config, accelerator),
    "-S",
    ...["-kernel", source.kernel, "-initrd", source.initramfs],
    ...["-append", kernelCommandLine(accelerator, hostTscKhz)],
  ];
}

/** Arguments of a VMM that waits for a device state. Kernel and initramfs are part of the restored memory. */
export function restoreArguments(config: VmmConfig, accelerator: Accelerator): string[] {
  // The capability x-ignore-shared can only be set over QMP, so the incoming migration must be deferred.
  return [...machineArguments(config, accelerator), "-incoming", "defer"];
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
function machineArguments(config: VmmConfig, accelerator: Accelerator): string[] {
  const { paths } = config;
  return [
    ...commonArguments(accelerator),
    ...["-name", `guest=torpor-${config.sandboxId}`],
    ...["-M", `${MACHINE},memory-backend=ram`],
    ...["-smp", String(config.vcpus), "-m", `${config.memoryMb}M`],
    "-object",
    `memory-backend-file,id=ram,size=${config.memoryMb}M,mem-path=/proc/self/fd/${VMM_MEMORY_FD},share=on`,
    ...["-chardev", socketChardev("qmp", paths.qmpSocket), "-mon", "chardev=qmp,mode=control"],
    ...["-chardev", socketChardev("console", paths.consoleSocket), "-serial", "chardev:console"],
    ...["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-device,rng=rng"],
    ...["-device", "virtio-serial-device", "-chardev", socketChardev("agent", paths.agentSocket)],
    ...["-device", `virtserialport,chardev=agent,name=${AGENT_PORT}`],
    ...diskArguments("base", config.baseImage, "read-only=on", "read-only=on"),
    ...diskArguments("disk", paths.disk, "discard=unmap", "discard=unmap,detect-zeroes=unmap", DISK_ERRORS),
    ...["-device", BALLOON],
    ...["-netdev", networkBackend(config), "-device", NETWORK],
  ];
}

/** Without a tap device there are no offloads: a guest that uses them can then not be restored, and QEMU says so. */
function networkBackend({ tapFd }: VmmConfig): string {
  return tapFd === undefined
    ? `hubport,id=${NETWORK_BACKEND},hubid=0`
    : `tap,id=${NETWORK_BACKEND},fd=${TAP_FD},vhost=off`;
}

/** What every QEMU that the agent starts has in common. */
export function commonArguments(accelerator: Accelerator): string[] {
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot"],
    ...["-sandbox", SECCOMP],
    ...["-accel", accelerator === "tcg" ? "tcg,thread=multi" : "kvm", "-cpu", cpuModel(accelerator)],
  ];
}

/** A unix socket that QEMU listens on; while nobody is connected, output is dropped. */
export function socketChardev(id: string, path: string): string {
  return `socket,id=${id},path=${escapeComma(path)},server=on,wait=off`;
}

/** docs/decisions/0022-guest-disk-errors.md: a write that fails stops the guest, a read that fails is told to it. */
const DISK_ERRORS = ",werror=stop,rerror=report";

function diskArguments(name: string, path: string, file: string, raw: string, device = ""): string[] {
  return [
    ...["-blockdev", `driver=file,node-name=${name}-file,filename=${escapeComma(path)},${file}`],
    ...["-blockdev", `driver=raw,node-name=${name},file=${name}-file,${raw}`],
    ...["-device", `virtio-blk-device,drive=${name}${device}`],
  ];
}

/** QEMU's option syntax: a comma in a value is written twice. */
function escapeComma(value: string): string {
  return value.replaceAll(",", ",,");
}
