import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { dependenciesOf, resolveModules } from "./modules.ts";

const module = (depends: string) => new TextEncoder().encode(`\x7fELF\0license=GPL\0depends=${depends}\0name=x\0`);

Deno.test("a module's dependencies are read from its information section", () => {
  assertEquals(dependenciesOf(module("virtio,virtio-ring")), ["virtio", "virtio_ring"]);
  assertEquals(dependenciesOf(module("")), []);
});

Deno.test("modules come after what they depend on, built-in ones not at all", async () => {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(directory, "kernel/drivers"), { recursive: true });
    const write = (name: string, depends: string) =>
      Deno.writeFile(join(directory, "kernel/drivers", `${name}.ko`), module(depends));
    await write("top-level", "middle,bottom,builtin");
    await write("middle", "bottom");
    await write("bottom", "");
    await Deno.writeTextFile(join(directory, "modules.builtin"), "kernel/fs/builtin.ko\n");
    const resolved = await resolveModules(directory, ["builtin", "top_level", "middle"]);
    assertEquals(resolved.map(({ name }) => name), ["bottom", "middle", "top_level"]);
    const error = await assertRejects(() => resolveModules(directory, ["missing"]), TorporError);
    assertEquals(error.code, "internal");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
