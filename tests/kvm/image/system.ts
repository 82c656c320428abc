import { join } from "@std/path";
import { type Artefact, buildArtefact, hashOf, removeTree } from "../../../services/guest/image/artefact.ts";
import { bootstrapDebian } from "../../../services/guest/image/bootstrap.ts";
import { run } from "../../../services/guest/image/command.ts";

/** Raise it when the recipe makes something else from the same inputs. */
const RECIPE_VERSION = 1;

/** What a host agent needs at run time, and `busybox` to switch the machine off. */
const PACKAGES = ["qemu-system-x86", "e2fsprogs", "util-linux", "iproute2", "procps", "busybox"];
const DPKG_OPTIONS = ["path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*"];

/** Size of the file system, bytes; it is read-only, so what is free is only sparse. */
const SYSTEM_BYTES = 2 * 1024 ** 3;

/** File name inside the artefact. */
export const SYSTEM_FILE = "system.ext4";

/** The Debian system of the lane's machine as a read-only disk. */
export async function buildLaneSystem(
  cacheDirectory: string,
  release: string,
  report: (line: string) => void,
): Promise<Artefact> {
  const inputs = { kind: "kvm-system", recipe: RECIPE_VERSION, release, packages: PACKAGES, dpkg: DPKG_OPTIONS };
  return await buildArtefact(cacheDirectory, "kvm-system", await hashOf(inputs), async (staging) => {
    const root = join(staging, "root");
    const system = { release, packages: PACKAGES, dpkgOptions: DPKG_OPTIONS };
    await bootstrapDebian(staging, root, system, report);
    for (const path of ["var/lib/apt/lists", "var/cache/apt"]) await removeTree(join(root, path));
    report("writing the file system");
    await makeFileSystem(join(staging, SYSTEM_FILE), SYSTEM_BYTES, root);
    await removeTree(root);
  });
}

/**
 * Makes an ext4 file system in a new sparse file and copies a directory into it. Without a journal: it is written by one
 * machine that ends soon.
 */
export async function makeFileSystem(image: string, bytes: number, from: string): Promise<void> {
  {
    using file = await Deno.open(image, { createNew: true, write: true });
    await file.truncate(bytes);
  }
  const features = ["-O", "^has_journal,^metadata_csum", "-E", "lazy_itable_init=1", "-m", "0"];
  await run(["mke2fs", "-t", "ext4", "-F", "-q", ...features, "-d", from, image]);
}
