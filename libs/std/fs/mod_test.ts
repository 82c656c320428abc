import { assertEquals, assertThrows } from "@std/assert";
import { exists, existsSync } from "./mod.ts";

Deno.test("a file, a directory, nothing, and a path through a file", async () => {
  const directory = await Deno.makeTempDir();
  await Deno.writeTextFile(`${directory}/file`, "");
  const paths = [directory, `${directory}/file`, `${directory}/nothing`, `${directory}/file/below`];
  const expected = [true, true, false, false];
  assertEquals(await Promise.all(paths.map(exists)), expected);
  assertEquals(paths.map(existsSync), expected);
  assertThrows(() => existsSync(`${directory}/${"x".repeat(300)}`), Error, "name too long");
  await Deno.remove(directory, { recursive: true });
});
