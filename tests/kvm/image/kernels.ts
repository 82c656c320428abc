import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { type Artefact, buildArtefact, hashOf, removeTree } from "../../../services/guest/image/artefact.ts";
import { packCpio } from "../../../services/guest/image/cpio.ts";
import { unpackPackage, withPackageLists } from "../../../services/guest/image/debian.ts";
import { unpackKernelPackage } from "../../../services/guest/image/kernel_package.ts";
import { type Module, resolveModules } from "../../../services/guest/image/modules.ts";

/** Raise it when the recipe makes something else from the same inputs. */
const RECIPE_VERSION = 1;

/** A kernel that the lane runs the host agent on. */
export interface LaneKernel {
  /** E.g. `6.12`; the package's version must begin with it. */
  series: string;
  /** The meta package that names the current one. */
  package: string;
}

/** Debian 12's own kernel and the newer one that it offers besides. */
export const KERNELS: readonly LaneKernel[] = [
  { series: "6.12", package: "linux-image-6.12-cloud-amd64" },
  { series: "6.1", package: "linux-image-cloud-amd64" },
];

/** File names inside the artefact. */
export const KERNEL_FILES = { kernel: "vmlinuz", initramfs: "initramfs.cpio", version: "version" } as const;

/** Disk, file systems, and KVM itself: nothing else of the kernel's modules is in the machine. */
const MODULES = ["virtio_pci", "virtio_blk", "ext4", "overlay", "kvm_amd"];

/** A kernel with an initramfs that loads its modules, mounts the two disks and starts the job. */
export async function buildLaneKernel(
  cacheDirectory: string,
  release: string,
  kernel: LaneKernel,
  report: (line: string) => void,
): Promise<Artefact> {
  const init = await Deno.readFile(new URL("./init.sh", import.meta.url));
  const inputs = { kind: "kvm-kernel", recipe: RECIPE_VERSION, release, kernel, modules: MODULES, init: init.toHex() };
  return await buildArtefact(cacheDirectory, "kvm-kernel", await hashOf(inputs), async (staging) => {
    const unpacked = join(staging, "unpacked");
    const { version, bzImage, modules } = await unpackKernelPackage(kernel.package, staging, unpacked, report);
    if (!version.startsWith(`${kernel.series}.`)) {
      throw new TorporError("config_invalid", `${kernel.package} is ${version} here, not ${kernel.series}`, {
        hint: "the lane's kernels are those of Debian 12",
      });
    }
    await Deno.copyFile(bzImage, join(staging, KERNEL_FILES.kernel));
    const busybox = await staticBusybox(staging, report);
    const archive = packInitramfs(init, busybox, await resolveModules(modules, MODULES));
    await Deno.writeFile(join(staging, KERNEL_FILES.initramfs), archive);
    await Deno.writeTextFile(join(staging, KERNEL_FILES.version), `${version}\n`);
    await removeTree(unpacked);
  });
}

async function staticBusybox(staging: string, report: (line: string) => void): Promise<Uint8Array> {
  const unpacked = join(staging, "busybox");
  const retry = () => report("updating the package lists");
  await withPackageLists(() => unpackPackage("busybox-static", staging, unpacked), retry);
  for (const path of ["bin/busybox", "usr/bin/busybox"]) {
    try {
      const program = await Deno.readFile(join(unpacked, path));
      await removeTree(unpacked);
      return program;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new TorporError("internal", "busybox-static holds no busybox");
}

function packInitramfs(init: Uint8Array, busybox: Uint8Array, modules: readonly Module[]): Uint8Array {
  const directory = (path: string) => ({ type: "directory", path, mode: 0o755 }) as const;
  const file = (path: string, content: Uint8Array) => ({ type: "file", path, mode: 0o755, content }) as const;
  return packCpio([
    ...["bin", "dev", "proc", "sys", "modules", "system", "changes", "root"].map(directory),
    { type: "character-device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    file("init", init),
    file("bin/busybox", busybox),
    file("modules/order", new TextEncoder().encode(modules.map(({ name }) => `${name}\n`).join(""))),
    ...modules.map(({ name, content }) => file(`modules/${name}.ko`, content)),
  ]);
}
