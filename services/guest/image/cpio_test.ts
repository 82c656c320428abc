import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { packCpio } from "./cpio.ts";
import { run, runText } from "./command.ts";

Deno.test("cpio unpacks what packCpio packs", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const content = (length: number) => new Uint8Array(length).fill(7);
    const archive = packCpio([
      { type: "directory", path: "d", mode: 0o755 },
      ...[0, 1, 2, 3, 4, 5].map((length) => ({
        type: "file" as const,
        path: `d/${"x".repeat(length + 1)}`,
        mode: 0o640,
        content: content(length),
      })),
    ]);
    await run(["cpio", "-i", "--quiet"], { cwd: directory, stdin: archive });
    for (const length of [0, 1, 2, 3, 4, 5]) {
      const path = join(directory, "d", "x".repeat(length + 1));
      assertEquals(await Deno.readFile(path), content(length));
      assertEquals((await Deno.stat(path)).mode! & 0o7777, 0o640);
    }
    const device = packCpio([{ type: "character-device", path: "console", mode: 0o600, major: 5, minor: 1 }]);
    const listing = await runText(["cpio", "-itv", "--quiet"], { stdin: device });
    assertEquals(/^crw-------.* 5,\s+1 .*console$/m.test(listing), true);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
