import { assert, assertEquals } from "@std/assert";
import { endProcess, isAlive, listProcesses, readProcess, signalProcess } from "./process_table.ts";

Deno.test("a process is found by its environment, ends on SIGTERM, and is gone afterwards", async () => {
  const mark = crypto.randomUUID();
  const child = new Deno.Command("sleep", { args: ["60"], env: { TORPOR_TEST_MARK: mark } }).spawn();
  const found = listProcesses().filter((process) => process.env.get("TORPOR_TEST_MARK") === mark);
  assertEquals(found.map((process) => process.pid), [child.pid]);
  assertEquals(found[0]!.argv.slice(-1), ["60"]);
  const [outcome] = await Promise.all([endProcess(found[0]!, 10_000), child.status]);
  assertEquals(outcome, "ended");
  assert(!isAlive(found[0]!));
  assertEquals(readProcess(child.pid), undefined);
});

Deno.test("a process that ignores SIGTERM is killed", async () => {
  const child = new Deno.Command("sh", {
    args: ["-c", "trap '' TERM; echo ready; read -r _"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  const process = readProcess(child.pid)!;
  const [outcome] = await Promise.all([endProcess(process, 100), child.status]);
  assertEquals(outcome, "killed");
  await Promise.all([reader.cancel(), child.stdin.close()]);
});

Deno.test("a pid that another process has now is not signalled", async () => {
  const child = new Deno.Command("sh", { args: ["-c", "echo; read _"], stdin: "piped", stdout: "piped" }).spawn();
  // A process that has only just started has no command line yet.
  const reader = child.stdout.getReader();
  await reader.read();
  const process = readProcess(child.pid)!;
  assertEquals(signalProcess({ ...process, startTime: "1" }, "SIGKILL"), false);
  assert(isAlive(process));
  await Promise.all([endProcess(process, 10_000), child.status]);
  await Promise.all([reader.cancel(), child.stdin.close()]);
});
