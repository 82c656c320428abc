/** The machine that the lane runs in, from Debian packages only: one system disk, one kernel for each series. */
import { join, resolve } from "@std/path";
import { debianRelease } from "../../../services/guest/image/debian.ts";
import { lockCache } from "../../../services/guest/image/lock.ts";
import { buildLaneKernel, KERNEL_FILES, type LaneKernel } from "./kernels.ts";
import { buildLaneSystem, SYSTEM_FILE } from "./system.ts";

export { KERNELS, type LaneKernel } from "./kernels.ts";
export { makeFileSystem } from "./system.ts";

/** What the machine boots: absolute paths. */
export interface LaneImage {
  series: string;
  /** Version of the kernel's Debian package. */
  version: string;
  kernel: string;
  initramfs: string;
  system: string;
}

/**
 * Builds what is missing, about a minute and a half the first time.
 * @throws TorporError `config_invalid` when this machine cannot, `internal` when a step fails.
 */
export async function buildLaneImages(
  cacheDirectory: string,
  kernels: readonly LaneKernel[],
  report: (line: string) => void,
): Promise<LaneImage[]> {
  const cache = resolve(cacheDirectory);
  await using _lock = await lockCache(cache);
  const release = await debianRelease();
  const system = await buildLaneSystem(cache, release, (line) => report(`system: ${line}`));
  const images: LaneImage[] = [];
  for (const kernel of kernels) {
    const { directory } = await buildLaneKernel(cache, release, kernel, (line) => report(`${kernel.series}: ${line}`));
    images.push({
      series: kernel.series,
      version: (await Deno.readTextFile(join(directory, KERNEL_FILES.version))).trim(),
      kernel: join(directory, KERNEL_FILES.kernel),
      initramfs: join(directory, KERNEL_FILES.initramfs),
      system: join(system.directory, SYSTEM_FILE),
    });
  }
  return images;
}
