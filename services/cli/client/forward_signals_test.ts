import { assertEquals } from "@std/assert";

/** A program that sends itself a signal, and the next one whenever one is passed on, which fails with this code. */
function program(failure: string): string {
  return `
    import { TorporError } from "@torpor/errors";
    import { forwardSignals } from "${import.meta.resolve("./forward_signals.ts")}";
    let sent = 0;
    using _forwarding = forwardSignals(async () => {
      setTimeout(() => Deno.kill(Deno.pid, "SIGINT"), 0);
      if (++sent === 3) Deno.exit(7);
      if ("${failure}") throw new TorporError("${failure}", "failed");
    });
    Deno.kill(Deno.pid, "SIGINT");
    await new Promise((resolve) => setTimeout(resolve, 60_000));`;
}

async function exitOf(failure: string): Promise<number> {
  const args = ["eval", "--quiet", program(failure)];
  return (await new Deno.Command(Deno.execPath(), { args, cwd: import.meta.dirname, stderr: "null" }).output()).code;
}

Deno.test("signals are passed on; behind one that did not get through the next one ends the program", async () => {
  assertEquals(await exitOf(""), 7);
  assertEquals(await exitOf("process_not_found"), 7, "it has ended meanwhile");
  assertEquals(await exitOf("unavailable"), 130);
});
