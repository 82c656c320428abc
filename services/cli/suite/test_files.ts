import { join, relative } from "@std/path";
import { REPOSITORY } from "../deployment/repository.ts";

/** Files and folders, relative to the repository. */
interface Paths {
  include: readonly string[];
  exclude?: readonly string[];
}

/** The kinds of test files that Deno runs. */
const KINDS = {
  /** Beside what they test. */
  unit: {
    include: ["libs", "ffi", "proto", "services", "infra", "tests/kvm"],
    exclude: ["services/guest/tests"],
  },
  /** The control plane with a real database: also random histories, connections that end, crowds. */
  control: {
    include: ["tests/integration/api", "tests/integration/control", "tests/faults", "tests/crash/model_test.ts"],
    exclude: ["tests/integration/api/real_snapshots_test.ts"],
  },
  /** What crosses processes: real virtual machines. */
  integration: {
    include: [
      "services/guest/tests",
      "tests/integration",
      "tests/integration/api/real_snapshots_test.ts",
      "tests/crash/matrix_test.ts",
    ],
    exclude: [
      "tests/integration/api",
      "tests/integration/control",
      "tests/integration/network",
      "tests/integration/ports",
      "tests/integration/sdk",
    ],
  },
  /** What guests reach and who reaches them, in networks that the tests make: real virtual machines, too. */
  network: {
    include: ["tests/integration/network", "tests/integration/ports", "tests/integration/sdk", "tests/security"],
  },
  /** Random chains of operations against a model of every byte. */
  property: { include: ["tests/property"] },
} as const satisfies Record<string, Paths>;

/** See {@linkcode KINDS}. */
export type TestKind = keyof typeof KINDS;

/** All kinds, cheap ones first. */
export const TEST_KINDS = Object.keys(KINDS) as TestKind[];

/** Take as long as all others together, so the others run beside them: a VM uses one processor. */
export const LONG_KINDS: readonly TestKind[] = ["integration"];

/** The paths of test files, relative to the repository and sorted. */
export async function testFiles(kind: TestKind): Promise<string[]> {
  const { include, exclude = [] }: Paths = KINDS[kind];
  const files = new Set<string>();
  for (const path of include) {
    const found: string[] = [];
    if (path.endsWith("_test.ts")) found.push(path);
    else await collect(join(REPOSITORY, path), found);
    // What is named itself counts, also inside of what is left out.
    const left = exclude.filter((other) => !path.startsWith(other));
    for (const file of found) {
      if (!left.some((other) => file === other || file.startsWith(`${other}/`))) files.add(file);
    }
  }
  return [...files].sort();
}

async function collect(directory: string, files: string[]): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    const path = join(directory, name);
    if (isDirectory && name !== "node_modules" && name !== "build") await collect(path, files);
    else if (name.endsWith("_test.ts")) files.push(relative(REPOSITORY, path));
  }
}
