import { exists } from "@std/fs";
import { statfs } from "node:fs/promises";
import { dirname, join } from "@std/path";
import type { HomePaths } from "@torpor/config";
import { readTextIfThere } from "../deployment/files.ts";
import { missingPackages } from "../deployment/packages.ts";
import { formatBytes } from "../terminal/format.ts";
import { runTool, succeeds } from "../tool/run_tool.ts";
import type { Check } from "./check.ts";

const GIB = 1024 ** 3;
const WANTED_MEMORY = 2 * GIB;
const WANTED_DISK = 10 * GIB;

/** Looks at the processor, privileges, memory, disk, file system and tools of this machine. */
export async function machineChecks(paths: HomePaths): Promise<Check[]> {
  return await Promise.all([
    architecture(),
    privileges(),
    packages(),
    cgroups(),
    memory(),
    disk(paths),
    reflink(paths),
  ]);
}

function architecture(): Check {
  if (Deno.build.arch === "x86_64") return { name: "processor", state: "ok", found: "x86_64" };
  return { name: "processor", state: "missing", found: Deno.build.arch, cost: "Torpor runs on x86_64 only" };
}

function privileges(): Check {
  if (Deno.uid() === 0) return { name: "privileges", state: "ok", found: "root" };
  return { name: "privileges", state: "missing", found: `user ${Deno.uid()}`, cost: "up and down need root for now" };
}

async function packages(): Promise<Check> {
  if (!await succeeds(["dpkg-query", "--version"])) {
    return { name: "packages", state: "unknown", found: "no dpkg", cost: "Torpor is made for Debian 12 or later" };
  }
  const missing = (await missingPackages()).map(({ name }) => name);
  if (missing.length === 0) return { name: "packages", state: "ok", found: "all Debian packages are installed" };
  return {
    name: "packages",
    state: "limited",
    found: `not installed: ${missing.join(", ")}`,
    cost: "./torpor up installs them",
  };
}

async function cgroups(): Promise<Check> {
  const controllers = await readTextIfThere("/sys/fs/cgroup/cgroup.controllers");
  if (controllers !== undefined) return { name: "cgroups", state: "ok", found: `v2: ${controllers.trim()}` };
  return {
    name: "cgroups",
    state: "limited",
    found: "no unified cgroup hierarchy at /sys/fs/cgroup",
    cost: "a sandbox's CPU and memory are limited by its VM's size only",
  };
}

async function memory(): Promise<Check> {
  const text = await Deno.readTextFile("/proc/meminfo");
  const available = Number(/^MemAvailable:\s+([0-9]+) kB$/m.exec(text)?.[1] ?? 0) * 1024;
  return {
    name: "memory",
    state: available >= WANTED_MEMORY ? "ok" : "limited",
    found: `${formatBytes(available)} available`,
    ...(available >= WANTED_MEMORY ? {} : { cost: "a few small sandboxes at a time only" }),
  };
}

async function disk(paths: HomePaths): Promise<Check> {
  const { bavail, bsize } = await statfs(await nearestDirectory(paths.home));
  const free = bavail * bsize;
  return {
    name: "disk",
    state: free >= WANTED_DISK ? "ok" : "limited",
    found: `${formatBytes(free)} free at ${paths.home}`,
    ...(free >= WANTED_DISK ? {} : { cost: "images take 2 GiB, each paused sandbox its memory and disk" }),
  };
}

async function reflink(paths: HomePaths): Promise<Check> {
  const parent = await nearestDirectory(paths.home);
  const directory = await Deno.makeTempDir({ dir: parent, prefix: ".torpor-reflink-" });
  try {
    await Deno.writeFile(join(directory, "a"), new Uint8Array(4096));
    const files = [join(directory, "a"), join(directory, "b")];
    if (await succeeds(["cp", "--reflink=always", ...files])) {
      return { name: "reflink", state: "ok", found: "files are copied without copying their data" };
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
  const type = await runTool(["stat", "-f", "-c", "%T", parent]);
  return {
    name: "reflink",
    state: "limited",
    found: `${type} cannot share data between files`,
    cost: "a resume copies the allocated bytes of the sandbox's disk; XFS or btrfs would not",
  };
}

/** The directory, or the nearest one above it that exists. */
async function nearestDirectory(path: string): Promise<string> {
  while (!await exists(path)) path = dirname(path);
  return path;
}
