import { assertEquals, assertLess } from "@std/assert";
import { ConsoleLog } from "./console.ts";

Deno.test("a console that prints without end keeps the last of it that came slowly enough, in bounded files", async () => {
  const directory = await Deno.makeTempDir();
  const socket = `${directory}/console.sock`;
  const path = `${directory}/console.log`;
  const listener = Deno.listen({ transport: "unix", path: socket });
  const log = await ConsoleLog.open(socket, path);
  const guest = await listener.accept();
  const line = new TextEncoder().encode("x".repeat(1023) + "\n");
  const total = 2000;
  const startedMs = performance.now();
  for (let i = 0; i < total; i++) await guest.write(line);
  guest.close();
  await log.drained;
  const seconds = (performance.now() - startedMs) / 1000;
  await log[Symbol.asyncDispose]();
  const kept = [`${path}.1`, path].map((name) => existing(name)).join("");
  const notes = [...kept.matchAll(/\[(\d+) bytes that came too fast are left out\]\n/g)];
  const leftOut = notes.reduce((sum, [, bytes]) => sum + Number(bytes), 0);
  assertEquals(leftOut > 0, true);
  const written = total * line.length - leftOut;
  // As much at once as is kept, then 64 KiB a second.
  assertLess(written, 256 * 1024 + 65 * 1024 * (seconds + 1));
  assertEquals(written >= 128 * 1024, true, `${written} bytes`);
  assertLess(kept.length, 2 * 256 * 1024 + 200);
  listener.close();
  await Deno.remove(directory, { recursive: true });
});

/** The text of a file; empty when there is none. */
function existing(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

Deno.test("a console is appended to, and can be let go of while the VM runs", async () => {
  const directory = await Deno.makeTempDir();
  const socket = `${directory}/console.sock`;
  const path = `${directory}/console.log`;
  await Deno.writeTextFile(path, "before\n");
  const listener = Deno.listen({ transport: "unix", path: socket });
  const log = await ConsoleLog.open(socket, path);
  const guest = await listener.accept();
  await log[Symbol.asyncDispose]();
  assertEquals(await Deno.readTextFile(path), "before\n");
  guest.close();
  listener.close();
  await Deno.remove(directory, { recursive: true });
});
