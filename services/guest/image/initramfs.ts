import { fromFileUrl, join } from "@std/path";
import { type Artefact, buildArtefact, hashOf, hashOfFiles, removeTree } from "./artefact.ts";
import { runText } from "./command.ts";
import { type CpioEntry, packCpio } from "./cpio.ts";
import { KERNEL_FILES } from "./kernel.ts";
import { type Module, resolveModules } from "./modules.ts";
import type { Progress } from "./progress.ts";

/** Raise it when the recipe makes something else from the same inputs. */
const RECIPE_VERSION = 1;

/** What a guest may meet: both virtio transports, disks, the agent's port, network, entropy, balloon, overlay. */
const MODULES = [
  "virtio_mmio",
  "virtio_pci",
  "virtio_console",
  "virtio_blk",
  "overlay",
  "virtio_rng",
  "virtio_net",
  "virtio_balloon",
];

const SERVICE_DIRECTORY = fromFileUrl(new URL("..", import.meta.url));
const PROTO_DIRECTORY = fromFileUrl(new URL("../../../proto/guest/v1", import.meta.url));

/** File name inside the artefact. */
export const INITRAMFS_FILE = "initramfs.cpio";

/** The initramfs: init, agent and the modules they need, uncompressed (the guest would pay for unpacking). */
export async function buildInitramfs(
  cacheDirectory: string,
  kernel: Artefact,
  onProgress: Progress,
): Promise<Artefact> {
  const hash = await hashOf({
    kind: "initramfs",
    recipe: RECIPE_VERSION,
    kernel: kernel.hash,
    modules: MODULES,
    sources: await hashOfFiles(SERVICE_DIRECTORY, ["agent", "init", "Makefile"]),
    protocol: await hashOfFiles(PROTO_DIRECTORY, ["guest.proto"]),
    compiler: await runText(["gcc", "-dumpfullversion"]),
  });
  return await buildArtefact(cacheDirectory, "initramfs", hash, async (staging) => {
    onProgress("initramfs", undefined, "compiling agent and init");
    const buildDirectory = join(staging, "build");
    await runText(["make", "-C", SERVICE_DIRECTORY, "-j2", "all", `BUILD_DIR=${buildDirectory}`]);
    onProgress("initramfs", undefined, "packing the initramfs");
    const archive = packCpio([
      ...skeleton(),
      { type: "file", path: "init", mode: 0o755, content: await Deno.readFile(join(buildDirectory, "torpor-init")) },
      {
        type: "file",
        path: "torpor-agent",
        mode: 0o755,
        content: await Deno.readFile(join(buildDirectory, "torpor-agent")),
      },
      ...moduleEntries(await resolveModules(join(kernel.directory, KERNEL_FILES.modules), MODULES)),
    ]);
    await Deno.writeFile(join(staging, INITRAMFS_FILE), archive);
    await removeTree(buildDirectory);
  });
}

function skeleton(): CpioEntry[] {
  const directory = (path: string): CpioEntry => ({ type: "directory", path, mode: 0o755 });
  return [
    directory("dev"),
    directory("modules"),
    // The kernel opens it for init before init has mounted anything.
    { type: "character-device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
  ];
}

function moduleEntries(modules: readonly Module[]): CpioEntry[] {
  const file = (name: string, content: Uint8Array): CpioEntry => ({
    type: "file",
    path: `modules/${name}`,
    mode: 0o644,
    content,
  });
  const order = modules.map(({ name }) => `${name}.ko\n`).join("");
  return [
    file("order", new TextEncoder().encode(order)),
    ...modules.map(({ name, content }) => file(`${name}.ko`, content)),
  ];
}
