import { assertEquals, assertLess } from "@std/assert";
import { ConsoleLog } from "./console.ts";

Deno.test("a console that prints without end keeps the last of it in bounded files", async () => {
  const directory = await Deno.makeTempDir();
  const socket = `${directory}/console.sock`;
  const path = `${directory}/console.log`;
  const listener = Deno.listen({ transport: "unix", path: socket });
  const log = await ConsoleLog.open(socket, path);
  const guest = await listener.accept();
  const line = new TextEncoder().encode("x".repeat(1023) + "\n");
  const total = 2000;
  for (let i = 0; i < total; i++) await guest.write(line);
  await guest.write(new TextEncoder().encode("the end\n"));
  guest.close();
  await log.drained;
  await log[Symbol.asyncDispose]();
  const kept = [`${path}.1`, path].map((name) => Deno.readTextFileSync(name)).join("");
  assertEquals(kept.endsWith("x\nthe end\n"), true);
  assertLess(kept.length, total * line.length / 2);
  assertEquals(kept.length >= 256 * 1024, true);
  listener.close();
  await Deno.remove(directory, { recursive: true });
});

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
