import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { buf, generate, PROTO_DIRECTORY } from "./buf.ts";

async function readTree(directory: string, prefix = ""): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for await (const { name, isDirectory } of Deno.readDir(join(directory, prefix))) {
    const path = join(prefix, name);
    if (isDirectory) Object.assign(files, await readTree(directory, path));
    else files[path] = await Deno.readTextFile(join(directory, path));
  }
  return files;
}

Deno.test("the generated code is what the contracts generate now", async () => {
  const directory = await Deno.makeTempDir();
  try {
    await generate(directory);
    const fresh = await readTree(join(directory, "gen"));
    const present = await readTree(join(PROTO_DIRECTORY, "gen"));
    assertEquals(Object.keys(present).sort(), Object.keys(fresh).sort(), "run: deno task gen");
    for (const [path, text] of Object.entries(fresh)) assert(present[path] === text, `${path} is stale: deno task gen`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("the contracts keep buf's lint rules", async () => {
  assertEquals(await buf(["lint"]), { success: true, output: "" });
});

Deno.test("the contracts are formatted as buf does", async () => {
  assertEquals(await buf(["format", "--diff", "--exit-code"]), { success: true, output: "" });
});
