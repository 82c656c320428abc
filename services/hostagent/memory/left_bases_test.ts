import { assertEquals, assertMatch } from "@std/assert";
import { nativeFiles, openLibrary } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import { namesIn } from "../storage/durable_file.ts";
import { Layout } from "../storage/layout.ts";
import { LeftBases } from "./left_bases.ts";

Deno.test("what base pagers of earlier agents have left is removed when they have ended, and not before", async () => {
  openLibrary(nativeFiles().library);
  const home = await Deno.makeTempDir();
  try {
    const layout = new Layout(home);
    await Deno.mkdir(layout.bases);
    const [ended, running] = [newId(), newId()];
    for (const mark of [ended, running]) await Deno.writeTextFile(layout.baseSocket(mark), "");
    await Deno.writeTextFile(layout.baseLog(newId()), "what it said");
    // Its mark is on its command line.
    const command = new Deno.Command("sh", { args: ["-c", "read line", running], stdin: "piped" });
    const process = command.spawn();
    const removed: string[] = [];
    const gone = Promise.withResolvers<void>();
    const jails = {
      removeBase(mark: string) {
        removed.push(mark);
        if (mark === running) gone.resolve();
      },
    };
    {
      await using _left = await LeftBases.open({ layout, jails, lookAgainMs: 10 });
      assertEquals(removed, [ended]);
      assertEquals((await namesIn(layout.bases)).filter((name) => name.endsWith(".sock")), [`${running}.sock`]);
      // It has not been touched: Z would be the state of one that was killed.
      assertMatch(await Deno.readTextFile(`/proc/${process.pid}/stat`), /\) [SR] /);
      await process.stdin.close();
      await process.status;
      await gone.promise;
    }
    assertEquals(removed, [ended, running]);
    assertEquals((await namesIn(layout.bases)).filter((name) => name.endsWith(".sock")), []);
    assertEquals((await namesIn(layout.bases)).length, 1);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});
