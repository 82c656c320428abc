/** A microVM for the boot test: QEMU under TCG with the images of the cache. */
import { join } from "@std/path";
import { type ImageSet, locateImages } from "../image/mod.ts";
import { GuestClient } from "./guest_client.ts";

/** A running microVM. Disposing it kills QEMU and removes its files. */
export interface TestVm extends AsyncDisposable {
  client: GuestClient;
  /** Hangs up and takes QEMU's next connection, as a new host end does. */
  reconnect(): Promise<void>;
  console(): Promise<string>;
}

/** MHz of the time stamp counter as the kernel found it; a microvm guest can't calibrate it itself. */
async function tscKhz(): Promise<number> {
  const log = await new Deno.Command("dmesg", { stdout: "piped", stderr: "null" }).output();
  const detected = /tsc: Detected ([\d.]+) MHz/.exec(new TextDecoder().decode(log.stdout))?.[1];
  const mhz = detected ?? /cpu MHz\s*: ([\d.]+)/.exec(await Deno.readTextFile("/proc/cpuinfo"))?.[1];
  return Math.round(Number(mhz) * 1000);
}

async function makeWritableDisk(path: string): Promise<void> {
  using file = await Deno.open(path, { create: true, write: true });
  await file.truncate(1024 ** 3);
  const argv = ["-t", "ext4", "-F", "-q", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1"];
  const { success } = await new Deno.Command("/usr/sbin/mke2fs", { args: [...argv, path] }).output();
  if (!success) throw new Error("mke2fs failed");
}

/** The command line of QEMU up to its disks and ports. */
async function machineArguments(memoryMb: number, images: ImageSet, directory: string, append: string) {
  const kernelArguments = `console=ttyS0 quiet loglevel=3 panic=-1 random.trust_cpu=on tsc=reliable no_timer_check ` +
    `tsc_early_khz=${await tscKhz()} cryptomgr.notests mitigations=off audit=0 apparmor=0 ${append}`;
  // Without ERMS the guest copies memory by words: under TCG `rep movsb` goes byte by byte, ten times slower.
  // deno-fmt-ignore
  return [
    "-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", `file:${join(directory, "console")}`,
    "-M", "microvm,acpi=on,rtc=on,pit=off,pic=off,x-option-roms=off", "-m", `${memoryMb}`, "-smp", "1",
    "-cpu", "max,-erms", "-accel", "tcg,thread=multi",
    "-kernel", images.kernel.path, "-initrd", images.initramfs.path, "-append", kernelArguments,
  ];
}

function startQemu(args: string[]): Deno.ChildProcess {
  return new Deno.Command("qemu-system-x86_64", { args, stdin: "null", stdout: "null", stderr: "inherit" }).spawn();
}

async function findImages(cacheDirectory: string): Promise<ImageSet> {
  const images = await locateImages({ cacheDirectory });
  if (!images) throw new Error(`no images in ${cacheDirectory}: run the build command of services/guest first`);
  return images;
}

/** Boots a machine without disks and with `append` on its kernel command line, until it switches off. */
export async function consoleUntilPowerOff(append: string, cacheDirectory: string): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "torpor-guest-" });
  try {
    const { success } = await startQemu(
      await machineArguments(128, await findImages(cacheDirectory), directory, append),
    ).status;
    if (!success) throw new Error("QEMU failed");
    return await Deno.readTextFile(join(directory, "console"));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Boots a microVM of `memoryMb` MiB; its agent's port is connected, Hello not yet sent. */
export async function bootVm(memoryMb: number, cacheDirectory: string): Promise<TestVm> {
  const images = await findImages(cacheDirectory);
  const directory = await Deno.makeTempDir({ prefix: "torpor-guest-" });
  const disk = join(directory, "disk.raw"), socket = join(directory, "agent.sock");
  await makeWritableDisk(disk);
  const listener = Deno.listen({ transport: "unix", path: socket });
  // deno-fmt-ignore
  const qemu = startQemu([
    ...await machineArguments(memoryMb, images, directory, ""),
    "-drive", `id=base,file=${images.base.path},format=raw,if=none,readonly=on`,
    "-device", "virtio-blk-device,drive=base",
    "-drive", `id=disk,file=${disk},format=raw,if=none`, "-device", "virtio-blk-device,drive=disk",
    "-device", "virtio-serial-device", "-chardev", `socket,id=agent,path=${socket},reconnect=1`,
    "-device", "virtserialport,chardev=agent,name=torpor.agent.0",
  ]);
  const vm: TestVm = {
    client: new GuestClient(await listener.accept()),
    reconnect: async () => {
      await vm.client[Symbol.asyncDispose]();
      vm.client = new GuestClient(await listener.accept());
    },
    console: () => Deno.readTextFile(join(directory, "console")),
    [Symbol.asyncDispose]: async () => {
      qemu.kill("SIGKILL");
      await qemu.status;
      listener.close();
      await vm.client[Symbol.asyncDispose]();
      await Deno.remove(directory, { recursive: true });
    },
  };
  return vm;
}
