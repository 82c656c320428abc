import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { run } from "./command.ts";
import { extractKernel } from "./kernel_image.ts";

const SETUP_SECTORS = 4;

async function bzImage(kernel: Uint8Array, argv: string[]): Promise<Uint8Array> {
  const packed = await run(argv, { stdin: kernel });
  const start = (SETUP_SECTORS + 1) * 512 + 16;
  const image = new Uint8Array(start + packed.length + 4 + 100);
  const view = new DataView(image.buffer);
  view.setUint8(0x1f1, SETUP_SECTORS);
  view.setUint32(0x202, 0x53726448, true);
  view.setUint32(0x248, 16, true);
  view.setUint32(0x24c, packed.length + 4, true);
  image.set(packed, start);
  return image;
}

Deno.test("the ELF kernel is found in a bzImage whatever its compression", async () => {
  const kernel = new Uint8Array(100_000).map((_, index) => index * index);
  kernel.set([0x7f, 0x45, 0x4c, 0x46]);
  // The kernel's build uses lz4's legacy format.
  for (const argv of [["lz4", "-l", "-c"], ["gzip", "-c"]]) {
    assertEquals(await extractKernel(await bzImage(kernel, argv)), kernel);
  }
});

Deno.test("what is no kernel is refused", async () => {
  const codeOf = async (image: Uint8Array) => (await assertRejects(() => extractKernel(image), TorporError)).code;
  assertEquals(await codeOf(new Uint8Array(10)), "internal");
  assertEquals(await codeOf(new Uint8Array(10_000)), "internal");
  assertEquals(await codeOf(await bzImage(new Uint8Array(1000), ["gzip", "-c"])), "internal");
  assertEquals(await codeOf((await bzImage(new Uint8Array(1000), ["gzip", "-c"])).subarray(0, 2600)), "internal");
});
