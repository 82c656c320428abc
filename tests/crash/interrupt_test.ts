import { assertEquals } from "@std/assert";
import { exists } from "@std/fs";

const MAIN = new URL("./main.ts", import.meta.url).pathname;

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  Deno.test(`a run that gets ${signal} while it plays histories ends with all its processes`, async () => {
    const main = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--allow-all", "--no-check", MAIN, "--case", "no such case", "--workers", "2"],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    let workers: number[] = [];
    // There is no event of a process that begins.
    while (workers.length < 2) {
      workers = await workersOf(main.pid);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    main.kill(signal);
    assertEquals((await main.status).code, 1);
    assertEquals(await Promise.all(workers.map((pid) => exists(`/proc/${pid}`))), [false, false]);
  });
}

/** The processes of histories that it has started. */
async function workersOf(pid: number): Promise<number[]> {
  const found: number[] = [];
  for await (const { name } of Deno.readDir(`/proc/${pid}/task`)) {
    const text = await textOf(`/proc/${pid}/task/${name}/children`);
    for (const child of text.split(" ").filter((child) => child !== "")) {
      if ((await textOf(`/proc/${child}/cmdline`)).includes("/model/worker.ts")) found.push(Number(child));
    }
  }
  return found;
}

/** "" of what has ended meanwhile. */
async function textOf(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || (error as { code?: string }).code === "ESRCH") return "";
    throw error;
  }
}
