import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { run } from "../../../services/guest/image/command.ts";
import { MANIFEST_FILE, readManifest } from "../../../services/guest/image/manifest.ts";
import { makeFileSystem } from "../image/mod.ts";

const REPOSITORY = new URL("../../../", import.meta.url).pathname;
/** Images, Deno, and what the sandboxes of all scenarios write; sparse. */
const DISK_BYTES = 8 * 1024 ** 3;

/** What the program inside is told, as `/job/job.json`. */
export interface Job {
  /** Names of scenarios; none: all. */
  scenarios: string[];
}

/** Where the product comes from. */
export interface Product {
  /** Cache directory with the guest images. */
  cache: string;
  /** Directory with libtorpor, pager and shim. */
  native: string;
}

/** Puts the product and the lane's program into `directory`, as the machine will see them below /job. */
export async function stageJob(directory: string, product: Product): Promise<void> {
  await Deno.mkdir(join(directory, "native"), { recursive: true });
  await Deno.mkdir(join(directory, "out"));
  const start = join(directory, "start.sh");
  await Deno.copyFile(new URL("./start.sh", import.meta.url), start);
  await Deno.copyFile(Deno.execPath(), join(directory, "deno"));
  // One file each: the machine would take long to translate hundreds of modules, and has no network to fetch packages.
  await bundle("services/hostagent/main.ts", join(directory, "hostagent.js"));
  await bundle("tests/kvm/inside/main.ts", join(directory, "lane.js"));
  // A bundle has all its modules; of the configuration only what changes Deno's own behaviour is left.
  const { unstable } = JSON.parse(await Deno.readTextFile(join(REPOSITORY, "deno.json")));
  await Deno.writeTextFile(join(directory, "deno.json"), JSON.stringify({ unstable }));
  for await (const { name, isFile } of Deno.readDir(product.native)) {
    if (isFile) await Deno.copyFile(join(product.native, name), join(directory, "native", name));
  }
  await copyGuestImages(product.cache, join(directory, "cache"));
}

/** Makes the disk from a staged directory. */
export async function makeJobDisk(directory: string, image: string, job: Job): Promise<void> {
  await Deno.writeTextFile(join(directory, "job.json"), JSON.stringify(job));
  await makeFileSystem(image, DISK_BYTES, directory);
}

/** Copies what the machine left in `/job/out` (logs) into a new directory. Works on a disk that was never unmounted. */
export async function readJobOutput(image: string, directory: string): Promise<void> {
  await run(["debugfs", "-R", `rdump /out ${directory}`, image]);
}

async function bundle(entry: string, output: string): Promise<void> {
  await run([Deno.execPath(), "bundle", "--quiet", "--frozen", "--output", output, join(REPOSITORY, entry)], {
    cwd: REPOSITORY,
    env: { NO_COLOR: "1" },
  });
}

async function copyGuestImages(from: string, to: string): Promise<void> {
  const images = await readManifest(from);
  if (!images) throw new TorporError("config_invalid", `no guest images in ${from}`);
  const paths = [images.kernel, images.initramfs, images.base].map(({ path }) => path);
  for (const path of [...paths, join(from, MANIFEST_FILE)]) {
    const target = join(to, path.slice(from.length));
    await Deno.mkdir(join(target, ".."), { recursive: true });
    await run(["cp", "--sparse=always", "--reflink=auto", path, target]);
  }
}
