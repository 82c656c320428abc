import { join, relative } from "@std/path";
import { REPOSITORY } from "../deployment/repository.ts";

/** The kinds of test files that Deno runs, and the folders that they are in. */
const ROOTS = {
  /** Beside what they test. */
  unit: ["libs", "ffi", "proto", "services", "infra", "tests/kvm"],
  /** What crosses processes: real database, real virtual machines. */
  integration: ["tests/integration"],
  /** Processes that die, and random histories: few of what `./torpor test crash` runs; connections that do; crowds. */
  faults: ["tests/crash", "tests/faults"],
  /** Random chains of operations against a model of every byte. */
  property: ["tests/property"],
} as const;

/** See {@linkcode ROOTS}. */
export type TestKind = keyof typeof ROOTS;

/** All kinds, cheap ones first. */
export const TEST_KINDS = Object.keys(ROOTS) as TestKind[];

/** The paths of test files, relative to the repository and sorted. */
export async function testFiles(kind: TestKind): Promise<string[]> {
  const files: string[] = [];
  for (const root of ROOTS[kind]) await collect(join(REPOSITORY, root), files);
  return files.sort();
}

async function collect(directory: string, files: string[]): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    const path = join(directory, name);
    if (isDirectory && name !== "node_modules" && name !== "build") await collect(path, files);
    else if (name.endsWith("_test.ts")) files.push(relative(REPOSITORY, path));
  }
}
