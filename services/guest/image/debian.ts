import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { exists, run, runText } from "./command.ts";

/** The code name of the Debian release this machine runs, which is also the guest's (`bookworm`). */
export async function debianRelease(): Promise<string> {
  const text = await Deno.readTextFile("/etc/os-release");
  const release = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(text)?.[1];
  if (/^ID="?debian"?$/m.test(text) && release) return release;
  throw new TorporError("config_invalid", "the guest image can only be built on Debian", {
    hint: "build the images on a Debian 12 machine and copy the cache directory",
  });
}

/** Runs `action`; if it fails, updates apt's package lists (they may be empty or old) and runs it once more. */
export async function withPackageLists<T>(action: () => Promise<T>, onUpdate: () => void): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof TorporError) || error.code === "config_invalid") throw error;
    onUpdate();
    await run(["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", "update"]);
    return await action();
  }
}

/** The real package behind a meta package: the first that it depends on. */
export async function resolveMetaPackage(name: string): Promise<string> {
  const text = await runText(["apt-cache", "depends", "--no-recommends", "--no-suggests", name]);
  const dependency = /^\s*Depends: (\S+)$/m.exec(text)?.[1];
  if (dependency) return dependency;
  throw new TorporError("internal", `apt knows no package behind ${name}`);
}

/** Downloads a package's current version into `directory` and unpacks it into `target`. Returns the version. */
export async function unpackPackage(name: string, directory: string, target: string): Promise<string> {
  // apt drops root for the download, but its own user can't enter a private directory.
  await run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name], { cwd: directory });
  for await (const entry of Deno.readDir(directory)) {
    if (!entry.name.startsWith(`${name}_`) || !entry.name.endsWith(".deb")) continue;
    const file = join(directory, entry.name);
    const version = (await runText(["dpkg-deb", "-f", file, "Version"])).trim();
    await run(["dpkg-deb", "-x", file, target]);
    await Deno.remove(file);
    return version;
  }
  throw new TorporError("internal", `apt downloaded no file for ${name}`);
}

/** apt's proxy settings of this machine, as options for another apt. */
export async function proxyOptions(): Promise<string[]> {
  const text = await runText(["apt-config", "dump", "Acquire"]);
  return text.split("\n").filter((line) => /^Acquire::\w+::Proxy(-Auto-Detect)? "[^"]+";$/.test(line));
}

/** This machine's own sources for the main archive of `release`, as the text of files apt understands. */
export async function debianSources(release: string): Promise<SourceText[]> {
  const texts: SourceText[] = [];
  for (const path of await sourceFiles()) {
    const kept = selectSources(await Deno.readTextFile(path), path.endsWith(".sources"), release);
    if (kept !== "") texts.push({ extension: path.endsWith(".sources") ? "sources" : "list", text: kept });
  }
  if (texts.length > 0) return texts;
  throw new TorporError("config_invalid", `no apt source of this machine has the main archive of ${release}`, {
    hint: "see /etc/apt/sources.list and /etc/apt/sources.list.d",
  });
}

/** Text of one apt source file and the file name extension that tells its format. */
export interface SourceText {
  extension: "list" | "sources";
  text: string;
}

async function sourceFiles(): Promise<string[]> {
  const directory = "/etc/apt/sources.list.d";
  const files = await exists("/etc/apt/sources.list") ? ["/etc/apt/sources.list"] : [];
  if (!await exists(directory)) return files;
  for await (const entry of Deno.readDir(directory)) {
    if (/\.(list|sources)$/.test(entry.name)) files.push(join(directory, entry.name));
  }
  return files.sort();
}

/**
 * Keeps the entries of a source file that are Debian's own for `release` (its archive, updates, security): other
 * vendors' sources must not change what is in the guest.
 */
export function selectSources(text: string, isDeb822: boolean, release: string): string {
  const suites = new Set([release, `${release}-updates`, `${release}-security`, `${release}/updates`]);
  if (isDeb822) {
    const stanzas = text.split(/\n\s*\n/).filter((stanza) => stanzaMatches(stanza, suites));
    return stanzas.map((stanza) => stanza.trim()).join("\n\n");
  }
  return text.split("\n").filter((line) => lineMatches(line, suites)).join("\n");
}

function stanzaMatches(stanza: string, suites: Set<string>): boolean {
  const words = (field: string) =>
    new RegExp(`^${field}:[ \\t]*(.*)$`, "mi").exec(stanza)?.[1]?.split(/\s+/).filter((word) => word !== "") ?? [];
  return words("Types").includes("deb") && words("Components").includes("main") && words("Enabled")[0] !== "no" &&
    words("Suites").some((suite) => suites.has(suite));
}

function lineMatches(line: string, suites: Set<string>): boolean {
  const [, suite, components] = /^\s*deb\s+(?:\[[^\]]*\]\s+)?\S+\s+(\S+)\s+(.*)$/.exec(line) ?? [];
  return suite !== undefined && suites.has(suite) && components!.split(/\s+/).includes("main");
}
