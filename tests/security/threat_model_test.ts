/** docs/threat-model.md names attempts and test files; each of them must be there. */
import { assert, assertGreater } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { ATTEMPTS } from "./adversary/attempts/mod.ts";

const REPOSITORY = fromFileUrl(new URL("../..", import.meta.url));
const ROOTS = ["tests", "services", "libs", "ffi/tests"];

Deno.test("each threat names attempts and test files that exist", async () => {
  const files: string[] = [];
  for (const root of ROOTS) await collect(root, files);
  const attempts = new Set(ATTEMPTS.map(({ name }) => name));
  const text = await Deno.readTextFile(join(REPOSITORY, "docs/threat-model.md"));
  const table = text.split("## Threats, controls, tests")[1]!.split("\n## ")[0]!;
  const rows = table.split("\n").filter((line) => line.startsWith("| ")).slice(1);
  assertGreater(rows.length, 20);
  for (const row of rows) {
    const named = Array.from(row.split(" | ").at(-1)!.matchAll(/`([^`]+)`/g), ([, name]) => name!);
    assertGreater(named.length, 0, row);
    for (const name of named) {
      const isThere = name.endsWith("_test.ts")
        ? files.some((file) => `/${file}`.endsWith(`/${name}`))
        : isAttempt(name, attempts);
      assert(isThere, `${name} does not exist`);
    }
  }
});

Deno.test("no two attempts have one name, and enough of them are in the shorter cut", () => {
  const names = ATTEMPTS.map(({ name }) => name);
  assert(new Set(names).size === names.length, "a name is used twice");
  assertGreater(ATTEMPTS.filter(({ quick }) => quick).length, 24);
});

/** `… by udp` is said of the one before it. */
function isAttempt(name: string, attempts: Set<string>): boolean {
  if (name.startsWith("… ")) return [...attempts].some((attempt) => attempt.endsWith(name.slice(1)));
  return attempts.has(name);
}

async function collect(directory: string, files: string[]): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(join(REPOSITORY, directory))) {
    const path = `${directory}/${name}`;
    if (isDirectory && name !== "build" && name !== "node_modules") await collect(path, files);
    else if (name.endsWith("_test.ts")) files.push(path);
  }
}
