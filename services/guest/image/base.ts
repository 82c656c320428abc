import { fromFileUrl, join } from "@std/path";
import { type Artefact, buildArtefact, hashOf, hashOfFiles, removeTree } from "./artefact.ts";
import { bootstrapDebian } from "./bootstrap.ts";
import { run, runText } from "./command.ts";
import type { Progress } from "./progress.ts";
import { prepareRootfs } from "./rootfs.ts";

/** Raise it when the recipe makes something else from the same inputs. */
const RECIPE_VERSION = 1;

/** The packages of the `base` template beyond Debian's minimal system. */
const PACKAGES = [
  "bash",
  "sudo",
  "coreutils",
  "python3",
  "git",
  "curl",
  "ca-certificates",
  "iproute2",
  "ncurses-bin",
  "procps",
  "libnss-myhostname",
];

/** Documentation that no program reads; kept in dpkg's configuration, so that later installs in a sandbox skip it too. */
const DPKG_OPTIONS = [
  "path-exclude=/usr/share/doc/*",
  "path-include=/usr/share/doc/*/copyright",
  "path-exclude=/usr/share/man/*",
  "path-exclude=/usr/share/info/*",
  "path-exclude=/usr/share/locale/*",
  "path-include=/usr/share/locale/locale.alias",
];

/** Size of the read-only file system, in bytes. Sandboxes write to their own disk, so the free space is only sparse. */
const BASE_BYTES = 1024 * 1024 * 1024;

/** File names inside the artefact. */
export const BASE_FILES = { image: "base.ext4", packages: "packages" } as const;

/** The read-only root file system that all sandboxes of the `base` template share, and the list of its packages. */
export async function buildBase(cacheDirectory: string, release: string, onProgress: Progress): Promise<Artefact> {
  const hash = await hashOf({
    kind: "base",
    recipe: RECIPE_VERSION,
    release,
    packages: PACKAGES,
    dpkg: DPKG_OPTIONS,
    bytes: BASE_BYTES,
    rootfs: await hashOfFiles(fromFileUrl(new URL(".", import.meta.url)), ["rootfs.ts"]),
  });
  return await buildArtefact(cacheDirectory, "base", hash, async (staging) => {
    const root = join(staging, "root");
    const system = { release, packages: PACKAGES, dpkgOptions: DPKG_OPTIONS };
    await bootstrapDebian(staging, root, system, (line) => onProgress("base", undefined, line));
    await prepareRootfs(root);
    const packages = await runText(["dpkg-query", `--admindir=${join(root, "var/lib/dpkg")}`, "-W"]);
    await Deno.writeTextFile(join(staging, BASE_FILES.packages), packages);
    onProgress("base", undefined, "writing the file system");
    await writeFileSystem(root, join(staging, BASE_FILES.image), hash);
    await removeTree(root);
  });
}

/** No journal and no checksums: the file system is never written to again, and a guest under TCG pays for both. */
async function writeFileSystem(root: string, image: string, hash: string): Promise<void> {
  const uuid = hash.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  const features = "^has_journal,^metadata_csum,^resize_inode";
  const options = `lazy_itable_init=1,hash_seed=${uuid}`;
  const argv = ["mke2fs", "-t", "ext4", "-F", "-q", "-m", "0", "-O", features, "-E", options, "-U", uuid, "-L", "base"];
  using file = await Deno.open(image, { create: true, write: true });
  await file.truncate(BASE_BYTES);
  await run([...argv, "-d", root, image]);
  await run(["e2fsck", "-fn", image]);
}
