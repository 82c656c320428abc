import { assertEquals, assertNotEquals } from "@std/assert";
import { join } from "@std/path";
import { hashTree } from "./hash_tree.ts";

Deno.test("a hash changes with each name and content, and with nothing else", async () => {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(directory, "sub"));
    const write = (name: string, text: string) => Deno.writeTextFile(join(directory, name), text);
    await write("a.ts", "1");
    await write("sub/b.ts", "2");
    const first = await hashTree([directory]);
    await write("a.ts", "1");
    assertEquals(await hashTree([directory]), first);
    await write("sub/b.ts", "3");
    const second = await hashTree([directory]);
    assertNotEquals(second, first);
    await write("notes.md", "");
    assertNotEquals(await hashTree([directory]), second);
    const onlyCode = ({ name, isDirectory }: { name: string; isDirectory: boolean }) =>
      isDirectory || name.endsWith(".ts");
    assertEquals(await hashTree([directory], onlyCode), second);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
