import { assertEquals, assertStringIncludes } from "@std/assert";
import { homePaths, torporHome } from "@torpor/config";
import { tscKhz } from "@torpor/ffi";
import { Images } from "../../storage/images.ts";
import { Layout } from "../../storage/layout.ts";
import { probeBoot } from "./probe_boot.ts";

const PROGRAM = "/usr/bin/qemu-system-x86_64";

async function currentImage() {
  const home = torporHome();
  const layout = new Layout(home, homePaths(home).cache);
  return await new Images(layout.cache, layout.images).current("base");
}

// With TCG, which every machine has: whether a guest that boots is noticed does not depend on the accelerator.
Deno.test("a guest kernel that boots is noticed", async () => {
  const image = await currentImage();
  const probe = { program: PROGRAM, image, accelerator: "tcg", hostTscKhz: tscKhz(), timeoutMs: 120_000 } as const;
  assertEquals((await probeBoot(probe)).booted, true);
});

Deno.test("a VMM that does not even start says why", async () => {
  const image = { ...await currentImage(), kernel: "/no/kernel" };
  const { booted, said } = await probeBoot({ program: PROGRAM, image, accelerator: "tcg", hostTscKhz: 1_000_000 });
  assertEquals(booted, false);
  assertStringIncludes(said, "/no/kernel");
});
