import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { removeTree } from "./artefact.ts";
import { resolveMetaPackage, unpackPackage, withPackageLists } from "./debian.ts";

/** A Debian kernel package, unpacked. */
export interface KernelPackage {
  /** Version of the package. */
  version: string;
  /** The kernel as a boot loader takes it. */
  bzImage: string;
  /** The directory with `kernel/` and `modules.builtin`. */
  modules: string;
}

/**
 * Downloads the kernel that a meta package stands for and unpacks it into `target`.
 * @param staging an existing directory for the download.
 * @throws TorporError `internal` when apt knows or gives no such package, or it holds no kernel.
 */
export async function unpackKernelPackage(
  metaPackage: string,
  staging: string,
  target: string,
  onLine: (line: string) => void,
): Promise<KernelPackage> {
  onLine(`downloading ${metaPackage}`);
  const version = await withPackageLists(
    async () => {
      await removeTree(target);
      return await unpackPackage(await resolveMetaPackage(metaPackage), staging, target);
    },
    () => onLine("updating the package lists"),
  );
  onLine(`unpacking the kernel ${version}`);
  const modules = await modulesDirectory(target);
  return {
    version,
    bzImage: join(target, "boot", await onlyEntry(join(target, "boot"), /^vmlinuz-/)),
    modules: join(modules, await onlyEntry(modules, /^\d/)),
  };
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
