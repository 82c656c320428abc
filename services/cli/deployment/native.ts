import { exists } from "@std/fs";
import { join } from "@std/path";
import type { HomePaths } from "@torpor/config";
import type { Report } from "../terminal/progress.ts";
import { runTool } from "../tool/run_tool.ts";
import { removeIfThere } from "./files.ts";
import { hashTree } from "./hash_tree.ts";
import { REPOSITORY } from "./repository.ts";

const PRODUCTS = ["libtorpor.so", "torpor-pager", "torpor-base-pager", "torpor-shim.so"];

/** The directory of the native code that was built from the present sources; it may not exist yet. */
export async function nativeDirectory(paths: HomePaths): Promise<string> {
  const sources = ["Makefile", "include", "src"].map((name) => join(REPOSITORY, "ffi", name));
  return join(paths.native, await hashTree(sources));
}

/**
 * Builds libtorpor, the pager and the shim, unless they are there for these very sources.
 * @returns the directory that holds the three files.
 */
export async function buildNative(paths: HomePaths, report: Report): Promise<string> {
  const directory = await nativeDirectory(paths);
  if (await hasProducts(directory)) return directory;
  await Deno.mkdir(paths.native, { recursive: true });
  const partial = await Deno.makeTempDir({ dir: paths.native, prefix: "partial-" });
  try {
    await runTool(["make", "-C", join(REPOSITORY, "ffi"), `BUILD_DIR=${partial}`], {
      onLine: (line) => reportCompiled(line, report),
    });
    await removeIfThere(join(partial, "obj"));
    await Deno.chmod(partial, 0o755);
    await moveInto(directory, partial);
  } finally {
    await removeIfThere(partial);
  }
  return directory;
}

/** Shows a compiler's command line as the file it makes. */
function reportCompiled(line: string, report: Report): void {
  const product = / -o \S*\/(\S+)/.exec(line)?.[1];
  if (product?.endsWith(".o")) report(`compiling ${product.replace(/o$/, "c")}`);
  else if (product) report(`linking ${product}`);
}

async function hasProducts(directory: string): Promise<boolean> {
  const found = await Promise.all(PRODUCTS.map((name) => exists(join(directory, name))));
  return found.every(Boolean);
}

async function moveInto(directory: string, partial: string): Promise<void> {
  try {
    await Deno.rename(partial, directory);
  } catch (error) {
    // Somebody else has built the same sources meanwhile.
    if (!await hasProducts(directory)) throw error;
  }
}
