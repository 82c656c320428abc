import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { type Image, type ImageSet, readManifest, writeManifest } from "./manifest.ts";

Deno.test("the manifest moves with its cache and is worth nothing without its files", async () => {
  const parent = await Deno.makeTempDir();
  try {
    const before = join(parent, "before"), after = join(parent, "after");
    await Deno.mkdir(before);
    const image = async (name: string): Promise<Image> => {
      await Deno.writeTextFile(join(before, name), name);
      return { hash: `hash of ${name}`, path: join(before, name), bytes: name.length, allocatedBytes: 4096 };
    };
    const set: ImageSet = {
      contentHash: "content",
      architecture: "x86_64",
      debianRelease: "bookworm",
      kernelVersion: "6.1",
      kernel: await image("kernel"),
      initramfs: await image("initramfs"),
      base: await image("base"),
    };
    assertEquals(await readManifest(before), undefined);
    await writeManifest(before, set);
    assertEquals(await readManifest(before), set);
    await Deno.rename(before, after);
    assertEquals((await readManifest(after))?.base.path, join(after, "base"));
    await Deno.remove(join(after, "base"));
    assertEquals(await readManifest(after), undefined);
    await Deno.writeTextFile(join(after, "images.json"), JSON.stringify({ schema: 2 }));
    assertEquals(await readManifest(after), undefined);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});
