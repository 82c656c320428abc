import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { buildArtefact, hashOf, hashOfFiles } from "./artefact.ts";

async function names(directory: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name).sort();
}

Deno.test("an artefact is built once, and what a dead builder left is thrown away", async () => {
  const cache = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(cache, "kind/.abc.building"), { recursive: true });
    await Deno.writeTextFile(join(cache, "kind/.abc.building/old"), "");
    let builds = 0;
    const build = async (staging: string) => {
      builds++;
      await Deno.writeTextFile(join(staging, "file"), "content");
    };
    const first = await buildArtefact(cache, "kind", "abc", build);
    const second = await buildArtefact(cache, "kind", "abc", build);
    assertEquals([first, builds], [second, 1]);
    assertEquals(await names(join(cache, "kind")), ["abc"]);
    assertEquals(await names(first.directory), ["file"]);
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});

Deno.test("a build that fails leaves nothing and passes its error on", async () => {
  const cache = await Deno.makeTempDir();
  try {
    const failure = new Error("no");
    const build = async (staging: string) => {
      await Deno.writeTextFile(join(staging, "half"), "");
      throw failure;
    };
    const error = await assertRejects(() => buildArtefact(cache, "kind", "abc", build));
    assert(error === failure);
    assertEquals(await names(join(cache, "kind")), []);
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});

Deno.test("the hash of files follows their names and contents", async () => {
  const root = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(root, "a/b"), { recursive: true });
    await Deno.writeTextFile(join(root, "a/b/file"), "1");
    const first = await hashOfFiles(root, ["a"]);
    assertEquals(await hashOfFiles(root, ["a"]), first);
    await Deno.writeTextFile(join(root, "a/b/file"), "2");
    const second = await hashOfFiles(root, ["a"]);
    await Deno.rename(join(root, "a/b/file"), join(root, "a/b/other"));
    const third = await hashOfFiles(root, ["a"]);
    assertEquals(new Set([first, second, third]).size, 3);
    assert(/^[0-9a-f]{32}$/.test(await hashOf({})));
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
