import { join, relative } from "@std/path";
import { REPOSITORY } from "../deployment/repository.ts";

/** Below these are the tests that lie beside what they test. */
const UNIT_ROOTS = ["libs", "ffi", "proto", "services", "infra"];
/** Here are the tests that cross processes: real database, real virtual machines. */
const INTEGRATION_ROOTS = ["tests"];

/** The paths of test files, relative to the repository and sorted. */
export async function testFiles(kind: "unit" | "integration"): Promise<string[]> {
  const files: string[] = [];
  for (const root of kind === "unit" ? UNIT_ROOTS : INTEGRATION_ROOTS) await collect(join(REPOSITORY, root), files);
  return files.sort();
}

async function collect(directory: string, files: string[]): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    const path = join(directory, name);
    if (isDirectory && name !== "node_modules" && name !== "build") await collect(path, files);
    else if (name.endsWith("_test.ts")) files.push(relative(REPOSITORY, path));
  }
}
