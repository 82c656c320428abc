import { join } from "@std/path";
import { type Artefact, buildArtefact, hashOf, removeTree } from "./artefact.ts";
import { extractKernel } from "./kernel_image.ts";
import { unpackKernelPackage } from "./kernel_package.ts";
import type { Progress } from "./progress.ts";

/** Debian's kernel for virtual machines; the meta package names the current one. */
const KERNEL_PACKAGE = "linux-image-cloud-amd64";
/** Raise it when the recipe makes something else from the same inputs. */
const RECIPE_VERSION = 1;

/** File names inside the kernel artefact. */
export const KERNEL_FILES = { kernel: "vmlinux", modules: "modules", version: "version" } as const;

/**
 * The guest kernel: `vmlinux`, all its `modules/`, and the package's `version`. The package's version is recorded but
 * not part of the name: a cache that is complete stays usable without a network.
 */
export async function buildKernel(cacheDirectory: string, release: string, onProgress: Progress): Promise<Artefact> {
  const hash = await hashOf({ kind: "kernel", recipe: RECIPE_VERSION, release, package: KERNEL_PACKAGE });
  return await buildArtefact(cacheDirectory, "kernel", hash, async (staging) => {
    const unpacked = join(staging, "unpacked");
    const report = (line: string) => onProgress("kernel", undefined, line);
    const { version, bzImage, modules } = await unpackKernelPackage(KERNEL_PACKAGE, staging, unpacked, report);
    await Deno.writeFile(join(staging, KERNEL_FILES.kernel), await extractKernel(await Deno.readFile(bzImage)));
    await Deno.rename(modules, join(staging, KERNEL_FILES.modules));
    await Deno.writeTextFile(join(staging, KERNEL_FILES.version), `${version}\n`);
    await removeTree(unpacked);
  });
}
