import { assert, assertEquals, assertThrows } from "@std/assert";
import { adoptProcess, memfdCreate, NativeError, openFile, pread, processStartTime, sizeBytes, spawn } from "./mod.ts";

const SIGTERM = 15;
const SIGKILL = 9;

function shell(script: string, more: Partial<Parameters<typeof spawn>[0]> = {}) {
  return spawn({ path: "/bin/sh", argv: ["sh", "-c", script], env: {}, descriptors: [], ...more });
}

async function outputOf(run: (stdoutFd: number) => ReturnType<typeof spawn>): Promise<string> {
  const path = await Deno.makeTempFile();
  using file = openFile(path, { write: true });
  const { code } = await run(file.fd).exited;
  assertEquals(code, 0);
  const text = await Deno.readTextFile(path);
  await Deno.remove(path);
  return text.trim();
}

Deno.test("the end of a process is told with its code or its signal", async () => {
  assertEquals(await shell("exit 7").exited, { code: 7, signal: null });
  const process = shell("exec sleep 1000");
  assert(process.signal(SIGTERM));
  assertEquals(await process.exited, { code: null, signal: SIGTERM });
  assertEquals(process.signal(SIGTERM), false);
  await process[Symbol.asyncDispose]();
});

Deno.test("many processes end at once and each is told its own code", async () => {
  const processes = Array.from({ length: 40 }, (_, k) => shell(`exit ${k}`));
  const ends = await Promise.all(processes.map((process) => process.exited));
  assertEquals(ends.map((end) => end.code), Array.from({ length: 40 }, (_, k) => k));
});

Deno.test("a process is killed at the end of its scope", async () => {
  let pid = 0;
  {
    await using process = shell("exec sleep 1000");
    pid = process.pid;
    assertEquals(processStartTime(pid), process.startTime);
  }
  assertEquals(assertThrows(() => processStartTime(pid), NativeError).code, "native_enoent");
});

Deno.test("a child sees its arguments, environment, directory and descriptors, and nothing else", async () => {
  using memory = memfdCreate("given", 4096);
  const script =
    'echo "$0|$1|$HERE|$HOME|$PWD"; echo hi >&9; n=0; while [ $n -lt 64 ]; do [ -e /proc/$$/fd/$n ] && printf " $n"; n=$((n+1)); done';
  const text = await outputOf((stdoutFd) =>
    spawn({
      path: "/bin/sh",
      argv: ["sh", "-c", script, "zero", "o n e"],
      env: { HERE: "h=1" },
      cwd: "/tmp",
      descriptors: [{ childFd: 9, fd: memory.fd }],
      stdoutFd,
    })
  );
  const [first, numbers] = text.split("\n");
  assertEquals(first, "zero|o n e|h=1||/tmp");
  assertEquals(numbers!.trim(), "0 1 2 9");
  const bytes = new Uint8Array(2);
  await pread(memory.fd, bytes, 0);
  assertEquals(new TextDecoder().decode(bytes), "hi");
});

Deno.test("a program that cannot be run is an error with the stage that failed", () => {
  const error = assertThrows(() => spawn({ path: "/no/such", argv: ["x"], env: {}, descriptors: [] }), NativeError);
  assertEquals([error.code, error.message.includes("exec of /no/such")], ["native_enoent", true]);
  const codeOf = (more: Parameters<typeof shell>[1]) => assertThrows(() => shell("true", more), NativeError).code;
  assertEquals(codeOf({ cwd: "/no/such" }), "native_enoent");
  assertEquals(codeOf({ descriptors: [{ childFd: 5, fd: 1 << 20 }] }), "native_ebadf");
  assertEquals(codeOf({ descriptors: [{ childFd: 5, fd: 1 }, { childFd: 5, fd: 2 }] }), "native_einval");
  assertEquals(codeOf({ env: { A: "a\0b" } }), "native_einval");
});

Deno.test("a child runs as the user that was asked for", async () => {
  const text = await outputOf((stdoutFd) =>
    shell("id -u; id -g; id -G; grep NoNewPrivs /proc/self/status", {
      uid: 65534,
      gid: 65533,
      noNewPrivileges: true,
      env: { PATH: "/usr/bin:/bin" },
      stdoutFd,
    })
  );
  assertEquals(text.split("\n"), ["65534", "65533", "65533", "NoNewPrivs:\t1"]);
});

Deno.test("a process is found again by its identity, and only then", async () => {
  const started = shell("exec sleep 1000.25");
  const { pid, startTime } = started;
  await started.release(); // as when the agent restarts
  assertEquals(adoptProcess({ pid, startTime: startTime + 1n, commandLineIncludes: "sleep" }), null);
  assertEquals(adoptProcess({ pid, startTime, commandLineIncludes: "sleep 999" }), null);
  assertEquals(adoptProcess({ pid: 0x3ffffff, startTime, commandLineIncludes: "" }), null);
  // The shell may not have become sleep yet.
  let found = adoptProcess({ pid, startTime, commandLineIncludes: "sleep 1000.25" });
  while (!found) found = adoptProcess({ pid, startTime, commandLineIncludes: "sleep 1000.25" });
  assert(found.signal(SIGKILL));
  assertEquals(await found.exited, { code: null, signal: SIGKILL });
  assertEquals(adoptProcess({ pid, startTime, commandLineIncludes: "sleep" }), null);
});

Deno.test("the end of a process that is no child is told without a code", async () => {
  const text = await outputOf((stdoutFd) => shell("sleep 1000 > /dev/null & echo $!", { stdoutFd }));
  const pid = Number(text);
  const found = adoptProcess({ pid, startTime: processStartTime(pid), commandLineIncludes: "" });
  assert(found);
  found.signal(SIGKILL);
  assertEquals(await found.exited, { code: null, signal: null });
});

Deno.test("a descriptor of another process can be duplicated", async () => {
  using memory = memfdCreate("theirs", 12288);
  await using process = shell("exec sleep 1000", { descriptors: [{ childFd: 77, fd: memory.fd }] });
  using copy = process.duplicateDescriptor(77);
  assertEquals(sizeBytes(copy.fd), 12288);
  assertEquals(assertThrows(() => process.duplicateDescriptor(78), NativeError).code, "native_ebadf");
});
