/**
 * The guest images of Torpor, from Debian packages only. Artefacts are named by a hash of their inputs, built once
 * under a lock and never visible half-built; `images.json` in the cache directory names the current set.
 */
import { join, resolve } from "@std/path";
import { TorporError } from "@torpor/errors";
import { hashOf } from "./artefact.ts";
import { BASE_FILES, buildBase } from "./base.ts";
import { missingPrograms } from "./command.ts";
import { debianRelease } from "./debian.ts";
import { buildInitramfs, INITRAMFS_FILE } from "./initramfs.ts";
import { buildKernel, KERNEL_FILES } from "./kernel.ts";
import { lockCache } from "./lock.ts";
import { describeImage, type ImageSet, readManifest, writeManifest } from "./manifest.ts";
import type { Progress } from "./progress.ts";

export type { Image, ImageSet } from "./manifest.ts";
export { MANIFEST_FILE } from "./manifest.ts";
export type { Progress } from "./progress.ts";

/** What {@linkcode buildImages} builds and for whom. */
export interface BuildOptions {
  /** Where artefacts and `images.json` are kept; made when missing. */
  cacheDirectory: string;
  onProgress?: Progress;
}

/** Programs the recipe runs, each with the Debian package that has it. */
export const REQUIRED_PROGRAMS: Readonly<Record<string, string>> = {
  mmdebstrap: "mmdebstrap",
  mke2fs: "e2fsprogs",
  e2fsck: "e2fsprogs",
  lz4: "lz4",
  make: "make",
  gcc: "gcc",
  strip: "binutils",
  "protoc-c": "protobuf-c-compiler",
  "dpkg-deb": "dpkg",
  "apt-get": "apt",
};

/**
 * Builds what is missing of the image set and returns it. Takes about a minute the first time and a few milliseconds
 * when nothing has changed. Needs root (a Debian system is unpacked with its owners).
 *
 * @throws TorporError `config_invalid` when the machine lacks something (see `hint`), `internal` when a step fails;
 * whatever was complete before stays usable.
 */
export async function buildImages({ cacheDirectory, onProgress = () => {} }: BuildOptions): Promise<ImageSet> {
  await checkMachine();
  const cache = resolve(cacheDirectory);
  await using _lock = await lockCache(cache);
  const release = await debianRelease();
  const steps = new StepReport(onProgress);
  const kernel = await buildKernel(cache, release, steps.next(0));
  const base = await buildBase(cache, release, steps.next(0.2));
  const initramfs = await buildInitramfs(cache, kernel, steps.next(0.85));
  const set: ImageSet = {
    contentHash: await hashOf([kernel.hash, initramfs.hash, base.hash]),
    architecture: "x86_64",
    debianRelease: release,
    kernelVersion: (await Deno.readTextFile(join(kernel.directory, KERNEL_FILES.version))).trim(),
    kernel: await describeImage(kernel.hash, join(kernel.directory, KERNEL_FILES.kernel)),
    initramfs: await describeImage(initramfs.hash, join(initramfs.directory, INITRAMFS_FILE)),
    base: await describeImage(base.hash, join(base.directory, BASE_FILES.image)),
  };
  await writeManifest(cache, set);
  onProgress("images", 1, `the guest images are ready (${set.contentHash})`);
  return set;
}

/** The current image set of a cache directory without building anything. Undefined when there is no complete one. */
export async function locateImages({ cacheDirectory }: { cacheDirectory: string }): Promise<ImageSet | undefined> {
  return await readManifest(resolve(cacheDirectory));
}

/** Adds the share of the whole that is done to what the steps report. */
class StepReport {
  constructor(private readonly onProgress: Progress) {}

  next(fraction: number): Progress {
    return (step, own, message) => this.onProgress(step, own ?? fraction, message);
  }
}

async function checkMachine(): Promise<void> {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
    throw new TorporError("config_invalid", "guest images can only be built on Linux on x86-64");
  }
  if (Deno.uid() !== 0) {
    throw new TorporError("config_invalid", "building the guest images needs root", {
      hint: "run it as root: the guest's files must belong to their owners",
    });
  }
  const missing = await missingPrograms(Object.keys(REQUIRED_PROGRAMS));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => REQUIRED_PROGRAMS[program]!))];
  throw new TorporError("config_invalid", `not installed: ${missing.join(", ")}`, {
    hint: `apt-get install ${packages.join(" ")}`,
  });
}
