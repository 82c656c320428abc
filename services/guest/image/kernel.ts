import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { type Artefact, buildArtefact, hashOf, removeTree } from "./artefact.ts";
import { resolveMetaPackage, unpackPackage, withPackageLists } from "./debian.ts";
import { extractKernel } from "./kernel_image.ts";
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
    onProgress("kernel", undefined, `downloading ${KERNEL_PACKAGE}`);
    const version = await withPackageLists(
      async () => {
        await removeTree(unpacked);
        return await unpackPackage(await resolveMetaPackage(KERNEL_PACKAGE), staging, unpacked);
      },
      () => onProgress("kernel", undefined, "updating the package lists"),
    );
    onProgress("kernel", undefined, `unpacking the kernel ${version}`);
    const bzImage = await Deno.readFile(join(unpacked, "boot", await onlyEntry(join(unpacked, "boot"), /^vmlinuz-/)));
    await Deno.writeFile(join(staging, KERNEL_FILES.kernel), await extractKernel(bzImage));
    const modules = await modulesDirectory(unpacked);
    await Deno.rename(join(modules, await onlyEntry(modules, /^\d/)), join(staging, KERNEL_FILES.modules));
    await Deno.writeTextFile(join(staging, KERNEL_FILES.version), `${version}\n`);
    await removeTree(unpacked);
  });
}

async function modulesDirectory(unpacked: string): Promise<string> {
  // Debian 13 merged /lib into /usr/lib in the package as well.
  for (const path of ["lib/modules", "usr/lib/modules"]) {
    try {
      if ((await Deno.stat(join(unpacked, path))).isDirectory) return join(unpacked, path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new TorporError("internal", "the kernel package holds no modules");
}

async function onlyEntry(directory: string, pattern: RegExp): Promise<string> {
  for await (const entry of Deno.readDir(directory)) {
    if (pattern.test(entry.name)) return entry.name;
  }
  throw new TorporError("internal", `nothing matches ${pattern} in the kernel package`);
}
