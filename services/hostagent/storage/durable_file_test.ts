import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { namesIn, readIfPresent, removeIfPresent, writeDurably } from "./durable_file.ts";

Deno.test("a durable write replaces the content and leaves no temporary file", async () => {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "record");
  await writeDurably(path, "one");
  await writeDurably(path, "two");
  assertEquals(await readIfPresent(path), "two");
  assertEquals(await namesIn(directory), ["record"]);
  await removeIfPresent(directory);
});

Deno.test("a write that fails leaves the old content", async () => {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "record");
  await writeDurably(path, "one");
  await Deno.mkdir(`${path}.new`); // The temporary name is taken: the open fails.
  await assertRejects(() => writeDurably(path, "two"));
  assertEquals(await readIfPresent(path), "one");
  await removeIfPresent(directory);
});

Deno.test("what does not exist reads as absent and is removed without complaint", async () => {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "gone", "deeper");
  assertEquals(await readIfPresent(path), undefined);
  assertEquals(await namesIn(path), []);
  await removeIfPresent(path);
  await removeIfPresent(directory);
  await assertRejects(() => Deno.stat(directory), Deno.errors.NotFound);
});
