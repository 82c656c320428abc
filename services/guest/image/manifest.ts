import { join } from "@std/path";
import { replaceFile } from "./artefact.ts";
import { exists } from "./command.ts";

/** One file of an image set. */
export interface Image {
  hash: string;
  /** Absolute. */
  path: string;
  /** Length of the file. */
  bytes: number;
  /** What it takes on disk; less than `bytes` where it is sparse. */
  allocatedBytes: number;
}

/** What a sandbox is booted from. */
export interface ImageSet {
  /** Names the set: a hash over the three parts. */
  contentHash: string;
  architecture: "x86_64";
  debianRelease: string;
  /** Version of the kernel's Debian package. */
  kernelVersion: string;
  kernel: Image;
  initramfs: Image;
  base: Image;
}

/** Name of the manifest in the cache directory. */
export const MANIFEST_FILE = "images.json";

/** Version of the manifest's schema. A reader refuses another. */
const SCHEMA = 1;

/**
 * Writes `images.json`. Paths in it are relative to the cache directory, so that the directory can be moved:
 *
 * ```json
 * {
 *   "schema": 1, "content_hash": "…", "architecture": "x86_64", "debian_release": "bookworm", "kernel_version": "…",
 *   "kernel": { "hash": "…", "path": "kernel/…/vmlinux", "bytes": 1, "allocated_bytes": 1 },
 *   "initramfs": { … }, "base": { … }
 * }
 * ```
 */
export async function writeManifest(cacheDirectory: string, set: ImageSet): Promise<void> {
  const image = ({ hash, path, bytes, allocatedBytes }: Image) => ({
    hash,
    path: path.slice(cacheDirectory.length).replace(/^\/+/, ""),
    bytes,
    allocated_bytes: allocatedBytes,
  });
  const manifest = {
    schema: SCHEMA,
    content_hash: set.contentHash,
    architecture: set.architecture,
    debian_release: set.debianRelease,
    kernel_version: set.kernelVersion,
    kernel: image(set.kernel),
    initramfs: image(set.initramfs),
    base: image(set.base),
  };
  await replaceFile(join(cacheDirectory, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** Describes a file that has been built. */
export async function describeImage(hash: string, path: string): Promise<Image> {
  const { size, blocks } = await Deno.stat(path);
  return { hash, path, bytes: size, allocatedBytes: (blocks ?? Math.ceil(size / 512)) * 512 };
}

/** Reads `images.json`. Undefined when there is none, it has another schema, or a file it names is gone. */
export async function readManifest(cacheDirectory: string): Promise<ImageSet | undefined> {
  const path = join(cacheDirectory, MANIFEST_FILE);
  if (!await exists(path)) return undefined;
  const manifest = JSON.parse(await Deno.readTextFile(path));
  if (manifest.schema !== SCHEMA) return undefined;
  const images = [manifest.kernel, manifest.initramfs, manifest.base].map((image) => ({
    hash: image.hash,
    path: join(cacheDirectory, image.path),
    bytes: image.bytes,
    allocatedBytes: image.allocated_bytes,
  } as Image));
  for (const image of images) {
    if (!await exists(image.path)) return undefined;
  }
  return {
    contentHash: manifest.content_hash,
    architecture: manifest.architecture,
    debianRelease: manifest.debian_release,
    kernelVersion: manifest.kernel_version,
    kernel: images[0]!,
    initramfs: images[1]!,
    base: images[2]!,
  };
}
