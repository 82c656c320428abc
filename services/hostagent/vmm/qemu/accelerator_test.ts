import { assertEquals } from "@std/assert";
import { probeAccelerator } from "./accelerator.ts";

const image = { kernel: "/no/kernel", initramfs: "/no/initramfs", base: "/no/base", baseHash: "0".repeat(32) };

Deno.test("where no guest answers under KVM the accelerator is TCG, and that is remembered per kernel", async () => {
  const directory = await Deno.makeTempDir();
  const cachePath = `${directory}/accelerator.json`;
  const host = { program: "/bin/false", version: "7.2.22", image, cachePath };
  assertEquals(await probeAccelerator(host), "tcg");
  // Where /dev/kvm cannot even be opened there is nothing to remember.
  const remembered = await Deno.readTextFile(cachePath).catch(() => undefined);
  if (remembered !== undefined) {
    await Deno.writeTextFile(cachePath, remembered.replace("tcg", "kvm"));
    assertEquals(await probeAccelerator(host), "kvm");
    const otherKernel = { ...image, kernel: "/another/kernel" };
    assertEquals(await probeAccelerator({ ...host, image: otherKernel }), "tcg");
    await Deno.writeTextFile(cachePath, "damaged");
    assertEquals(await probeAccelerator(host), "tcg");
  }
  await Deno.remove(directory, { recursive: true });
});
