/** docs/hazards.md names test files; each of them must be there. */
import { assert, assertGreater } from "@std/assert";
import { fromFileUrl, join } from "@std/path";

const REPOSITORY = fromFileUrl(new URL("../..", import.meta.url));
const ROOTS = ["tests", "services", "ffi/tests"];

Deno.test("each hazard names test files that exist", async () => {
  const files: string[] = [];
  for (const root of ROOTS) await collect(join(REPOSITORY, root), files);
  const text = await Deno.readTextFile(join(REPOSITORY, "docs/hazards.md"));
  const rows = text.split("\n").filter((line) => line.startsWith("| ")).slice(1);
  assertGreater(rows.length, 15);
  for (const row of rows) {
    const tests = row.split(" | ").at(-1)!;
    const named = Array.from(tests.matchAll(/`([\w/.]+_test\.(?:ts|c))`/g), ([, path]) => path!);
    assertGreater(named.length, 0, row);
    for (const path of named) assert(files.some((file) => file.endsWith(`/${path}`)), `${path} does not exist`);
  }
});

async function collect(directory: string, files: string[]): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    const path = join(directory, name);
    if (isDirectory && name !== "build") await collect(path, files);
    else if (/_test\.(ts|c)$/.test(name)) files.push(path);
  }
}
