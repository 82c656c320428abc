import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { Images } from "./images.ts";

const hash = (letter: string) => letter.repeat(32);

Deno.test("the current images come from images.json, the base of a sandbox from its own hash", async () => {
  const cache = await Deno.makeTempDir();
  const images = new Images(cache, `${cache}/images.json`);
  const part = (kind: string, letter: string, name: string) => ({
    hash: hash(letter),
    path: `${kind}/${hash(letter)}/${name}`,
    bytes: 1,
  });
  const manifest = {
    schema: 1,
    content_hash: hash("d"),
    kernel: part("kernel", "a", "vmlinux"),
    initramfs: part("initramfs", "b", "initramfs.cpio"),
    base: part("base", "c", "base.ext4"),
  };
  await Deno.writeTextFile(`${cache}/images.json`, JSON.stringify(manifest));
  const current = await images.current("base");
  assertEquals(current, {
    kernel: `${cache}/kernel/${hash("a")}/vmlinux`,
    initramfs: `${cache}/initramfs/${hash("b")}/initramfs.cpio`,
    base: `${cache}/base/${hash("c")}/base.ext4`,
    baseHash: hash("c"),
  });
  assertEquals(images.basePath(current.baseHash), current.base);
  assertEquals((await assertRejects(() => images.current("other"), TorporError)).code, "template_not_found");
  await Deno.writeTextFile(`${cache}/images.json`, JSON.stringify({ ...manifest, schema: 2 }));
  assertEquals((await assertRejects(() => images.current("base"), TorporError)).code, "config_invalid");
  await Deno.remove(cache, { recursive: true });
});
