import { basename, join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { run } from "./command.ts";

/** A kernel module as the initramfs holds it. */
export interface Module {
  /** With `_` for `-`, as dependencies are written. */
  name: string;
  /** Uncompressed `.ko`. */
  content: Uint8Array;
}

/**
 * The modules named and all that they depend on, each after its dependencies: the order in which a program without
 * modprobe can load them. What is built into the kernel is left out.
 *
 * @throws TorporError `internal` when the kernel has no such module.
 */
export async function resolveModules(directory: string, names: readonly string[]): Promise<Module[]> {
  const files = await moduleFiles(join(directory, "kernel"));
  const builtIn = await builtInModules(directory);
  const ordered = new Map<string, Module>();
  const add = async (name: string): Promise<void> => {
    if (ordered.has(name) || builtIn.has(name)) return;
    const file = files.get(name);
    if (!file) throw new TorporError("internal", `the kernel has no module ${name}`);
    const content = await readModule(file);
    for (const dependency of dependenciesOf(content)) await add(dependency);
    ordered.set(name, { name, content });
  };
  for (const name of names) await add(name);
  return [...ordered.values()];
}

/** The names in a module's `depends` entry (its `.modinfo` section is a list of `key=value` strings). */
export function dependenciesOf(module: Uint8Array): string[] {
  // Latin-1 keeps one character per byte.
  const text = new TextDecoder("latin1").decode(module);
  const value = /(?:^|\0)depends=([^\0]*)\0/.exec(text)?.[1] ?? "";
  return value.split(",").filter((name) => name !== "").map(canonicalName);
}

function canonicalName(name: string): string {
  return name.replaceAll("-", "_");
}

function nameOfFile(path: string): string {
  return canonicalName(basename(path).replace(/\.ko(\.\w+)?$/, ""));
}

async function builtInModules(directory: string): Promise<Set<string>> {
  const text = await Deno.readTextFile(join(directory, "modules.builtin"));
  return new Set(text.split("\n").filter((line) => line !== "").map(nameOfFile));
}

async function moduleFiles(directory: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for await (const entry of Deno.readDir(directory)) {
    const path = join(directory, entry.name);
    if (entry.isDirectory) { for (const [name, file] of await moduleFiles(path)) files.set(name, file); }
    else if (/\.ko(\.\w+)?$/.test(entry.name)) files.set(nameOfFile(path), path);
  }
  return files;
}

async function readModule(path: string): Promise<Uint8Array> {
  if (path.endsWith(".xz")) return await run(["xz", "-d", "-c", path]);
  if (path.endsWith(".zst")) return await run(["zstd", "-d", "-c", path]);
  return await Deno.readFile(path);
}
