import { join } from "@std/path";
import { run } from "./command.ts";
import { debianSources, proxyOptions } from "./debian.ts";

/** What a Debian system consists of beyond the minimal one. */
export interface DebianSystem {
  /** Code name, e.g. `bookworm`. */
  release: string;
  packages: readonly string[];
  /** Kept in the system's dpkg configuration. */
  dpkgOptions: readonly string[];
}

/** Unpacks and configures a minimal Debian system with the given packages in `root`, from this machine's own sources. */
export async function bootstrapDebian(
  staging: string,
  root: string,
  { release, packages, dpkgOptions }: DebianSystem,
  onLine: (line: string) => void,
): Promise<void> {
  const sources: string[] = [];
  for (const [index, { extension, text }] of (await debianSources(release)).entries()) {
    const file = join(staging, `source-${index}.${extension}`);
    await Deno.writeTextFile(file, `${text}\n`);
    sources.push(file);
  }
  const argv = [
    // Its mounts below the root must end with it: a later builder removes what a killed one has left.
    "unshare",
    "--mount",
    "mmdebstrap",
    "--mode=root",
    "--format=directory",
    "--variant=minbase",
    `--include=${packages.join(",")}`,
    ...dpkgOptions.map((option) => `--dpkgopt=${option}`),
    ...(await proxyOptions()).map((option) => `--aptopt=${option}`),
    release,
    root,
    ...sources,
  ];
  const report = (line: string) => line.startsWith("I: ") && onLine(line.slice(3));
  await run(argv, { onLine: report, env: { TMPDIR: staging } });
  for (const file of sources) await Deno.remove(file);
}
