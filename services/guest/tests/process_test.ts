import { assert, assertEquals } from "@std/assert";
import { StatusCode } from "@torpor/proto/guest";
import { collectRun, concat, succeeded } from "./guest_client.ts";
import { startNativeAgent } from "./native_agent.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const shell = (script: string) => ["/bin/sh", "-c", script];
const start = (script: string) => ({ case: "startProcess", value: { argv: shell(script), user: "root" } }) as const;

Deno.test("a process runs as its user with its environment, directory, outputs and exit code", async () => {
  await using agent = await startNativeAgent();
  const result = await agent.client.run(
    shell('id -u; pwd; echo "$HOME $USER $LOGNAME $A ${PATH%%:*}"; umask; echo err >&2; exit 7'),
    { user: "", environment: [{ name: "A", value: "1" }, { name: "A", value: "2" }, { name: "USER", value: "me" }] },
  );
  assertEquals(
    text(result.stdout),
    `64321\n${agent.home}\n${agent.home} me user 2 /usr/local/sbin\n0022\n`,
  );
  assertEquals([text(result.stderr), result.exitCode, result.signal], ["err\n", 7, 0]);
  assert(result.end.spans.some((span) => span.name === "guest.start_process" && span.durationNs > 0n));
  const elsewhere = await agent.client.run(["pwd"], { workingDirectory: "/usr" });
  assertEquals(text(elsewhere.stdout), "/usr\n");
});

Deno.test("argv[0] is looked up in the PATH of the given environment", async () => {
  await using agent = await startNativeAgent();
  const environment = [{ name: "PATH", value: "/nowhere" }];
  const { end } = await agent.client.run(["true"], { environment });
  assertEquals([end.status?.code, end.status?.errnoValue], [StatusCode.NOT_FOUND, 2]);
});

Deno.test("a process that can't start ends the stream with the reason", async () => {
  await using agent = await startNativeAgent();
  const statusOf = async (argv: string[], options: Record<string, unknown> = {}) => {
    const { end } = await agent.client.run(argv, options);
    return [end.status?.code, end.status?.errnoValue];
  };
  assertEquals(await statusOf(["/no/such/program"]), [StatusCode.NOT_FOUND, 2]);
  assertEquals(await statusOf(["/etc/passwd"]), [StatusCode.PERMISSION_DENIED, 13]);
  assertEquals(await statusOf(["true"], { workingDirectory: "/no/such/directory" }), [StatusCode.NOT_FOUND, 2]);
  assertEquals(await statusOf(["true"], { workingDirectory: "/root", user: "user" }), [
    StatusCode.PERMISSION_DENIED,
    13,
  ]);
  assertEquals(await statusOf(["true"], { user: "nobody-at-all" }), [StatusCode.NOT_FOUND, 2]);
  assertEquals(await statusOf([]), [StatusCode.INVALID_ARGUMENT, 22]);
  assertEquals(await statusOf(["true"], { environment: [{ name: "A=B", value: "" }] }), [
    StatusCode.INVALID_ARGUMENT,
    22,
  ]);
  assertEquals((await agent.client.call({ case: "listProcesses", value: {} })).events, []);
});

Deno.test("an exit by signal is reported as a signal, and a signal reaches the whole group", async () => {
  await using agent = await startNativeAgent();
  const killed = await agent.client.run(shell("kill -KILL $$"));
  assertEquals([killed.signal, killed.exitCode], [9, 0]);
  const stream = await agent.client.open(start("sleep 1000 & echo ready; wait"));
  const started = await stream.next();
  assert(started.case === "processStarted");
  assertEquals((await stream.next()).case, "processOutput");
  const pid = started.value.pid;
  assert(succeeded((await agent.client.call({ case: "signalProcess", value: { pid, signal: 15 } })).end));
  assertEquals((await collectRun(stream)).signal, 15);
  // Zombies that this machine's first process has not reaped yet are dead all the same.
  const alive = shell(`ps -eo pgid=,stat= | awk '$1 == ${pid} && $2 !~ /^Z/ { found = 1 } END { exit !found }'`);
  while ((await agent.client.run(alive)).exitCode === 0) continue;
  const again = await agent.client.call({ case: "signalProcess", value: { pid, signal: 15 } });
  assertEquals(again.end.status?.code, StatusCode.FAILED_PRECONDITION);
  const unknown = await agent.client.call({ case: "signalProcess", value: { pid: 1, signal: 15 } });
  assertEquals(unknown.end.status?.code, StatusCode.NOT_FOUND);
});

Deno.test("a timeout kills the process group", async () => {
  await using agent = await startNativeAgent();
  const result = await agent.client.run(shell("sleep 1000 & wait"), { timeoutMs: 50n });
  assertEquals([result.signal, result.timedOut], [9, true]);
});

Deno.test("stdin arrives whole, within its credit, and ends", async () => {
  await using agent = await startNativeAgent();
  const bytes = crypto.getRandomValues(new Uint8Array(65_536));
  const input = concat(Array.from({ length: 48 }, () => bytes));
  const result = await agent.client.run(["cat"], {}, input);
  assertEquals(result.exitCode, 0);
  assert(result.stdout.length === input.length && result.stdout.every((byte, index) => byte === input[index]));
  const closed = await agent.client.run(["cat"]);
  assertEquals([closed.exitCode, closed.stdout.length], [0, 0]);
  const deaf = await agent.client.run(["true"], {}, input);
  assertEquals(deaf.exitCode, 0);
});

Deno.test("WriteStdin feeds a process from another stream", async () => {
  await using agent = await startNativeAgent();
  const stream = await agent.client.open({ case: "startProcess", value: { argv: ["cat"], user: "root", stdin: true } });
  const started = await stream.next();
  assert(started.case === "processStarted");
  const pid = started.value.pid;
  const write = (data: string, eof: boolean) =>
    agent.client.call({ case: "writeStdin", value: { pid, data: new TextEncoder().encode(data), eof } });
  assert(succeeded((await write("one ", false)).end));
  assert(succeeded((await write("two", true)).end));
  assertEquals(text((await collectRun(stream)).stdout), "one two");
  assertEquals((await write("three", false)).end.status?.code, StatusCode.FAILED_PRECONDITION);
});

Deno.test("50 MB of binary output arrive unchanged and in order", async () => {
  await using agent = await startNativeAgent();
  const bytes = 50_000_000;
  const script = `import hashlib, os, sys
chunk = bytes(range(256)) * 1000 + os.urandom(9)
out = (chunk * (${bytes} // len(chunk) + 1))[:${bytes}]
sys.stdout.buffer.write(out)
sys.stderr.write(hashlib.sha256(out).hexdigest())`;
  const result = await agent.client.run(["python3", "-c", script]);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", result.stdout as Uint8Array<ArrayBuffer>))
    .toHex();
  assertEquals([result.stdout.length, digest], [bytes, text(result.stderr)]);
});

Deno.test("a reader that stalls holds its process back, loses nothing and stalls nobody else", async () => {
  await using agent = await startNativeAgent();
  const bytes = 8_000_000;
  const stalled = await agent.client.open(start(`head -c ${bytes} /dev/zero; echo done >&2`));
  stalled.autoCredit = false;
  let received = 0;
  const take = async () => {
    const event = await stalled.next();
    if (event.case === "processOutput") received += event.value.data.length;
    return event;
  };
  while (received < 200_000) await take();
  // Another stream moves megabytes while this one has no credit.
  const other = await agent.client.run(shell("head -c 4000000 /dev/zero"));
  assertEquals(other.stdout.length, 4_000_000);
  assert(received <= 262_144);
  const list = await agent.client.call({ case: "listProcesses", value: {} });
  const running = list.events.filter((event) => event.case === "processInfo" && event.value.running);
  assertEquals(running.length, 1);
  stalled.autoCredit = true;
  await stalled.grant(received);
  const rest = await collectRun(stalled);
  assertEquals([received + rest.stdout.length, text(rest.stderr), rest.exitCode], [bytes, "done\n", 0]);
});

type Client = Awaited<ReturnType<typeof startNativeAgent>>["client"];

/** A process that writes "first\n", then, when its stdin has ended, `bytes` zeros, and exits with 3. "first\n" was read. */
async function startWriter(client: Client, bytes: number, options: { neverHoldBack?: boolean } = {}) {
  const argv = shell(`echo first; cat >/dev/null; head -c ${bytes} /dev/zero; exit 3`);
  const stream = await client.open({ case: "startProcess", value: { argv, user: "root", stdin: true, ...options } });
  const started = await stream.next();
  assert(started.case === "processStarted");
  const first = await stream.next();
  assert(first.case === "processOutput" && first.value.sequence === 1n);
  const { pid, startedUnixMs } = started.value;
  return { stream, pid, startedUnixMs, begin: () => client.call({ case: "writeStdin", value: { pid, eof: true } }) };
}

/** Reads to the exit: bytes that came and that gaps told of; the numbers must be without a hole behind `after`. */
async function follow(client: Client, attach: { pid: number; afterSequence: bigint; holdBack?: boolean }) {
  let next = attach.afterSequence + 1n, received = 0, exitCode = -1;
  const lost: bigint[] = [];
  for await (const event of await client.open({ case: "attachProcess", value: attach })) {
    if (event.case === "processGap") {
      assertEquals(event.value.firstLostSequence, next);
      next = event.value.lastLostSequence + 1n;
      lost.push(event.value.lostBytes);
    } else if (event.case === "processOutput") {
      assertEquals(event.value.sequence, next++);
      received += event.value.data.length;
    } else if (event.case === "processExited") exitCode = event.value.exitCode;
  }
  return { received, lost, exitCode };
}

Deno.test("the place of a reader that is gone with its epoch is kept: nothing is lost when another takes it", async () => {
  await using agent = await startNativeAgent();
  const bytes = 6_000_000;
  const { pid, begin } = await startWriter(agent.client, bytes);
  await agent.client.hello();
  await begin();
  // An observer sees that the process gets no further than the log, and holds nobody back itself.
  const observer = await agent.client.open({ case: "attachProcess", value: { pid, afterSequence: 1n } });
  assertEquals((await observer.next()).case, "processStarted");
  assertEquals((await observer.next()).case, "processOutput");
  const list = await agent.client.call({ case: "listProcesses", value: {} });
  assert(list.events.some((event) => event.case === "processInfo" && event.value.pid === pid && event.value.running));
  const { received, lost, exitCode } = await follow(agent.client, { pid, afterSequence: 1n, holdBack: true });
  assertEquals([received, lost, exitCode], [bytes, [], 3]);
});

Deno.test("a place is not kept for ever", async () => {
  await using agent = await startNativeAgent();
  const { stream, pid, begin } = await startWriter(agent.client, 3_000_000);
  await stream.cancel();
  const since = performance.now();
  await begin();
  const { exitCode } = await follow(agent.client, { pid, afterSequence: 1n });
  assertEquals(exitCode, 3);
  assert(performance.now() - since > 29_000);
});

Deno.test("no place is kept in a sandbox that has become another one", async () => {
  const file = await Deno.makeTempFile();
  try {
    await using agent = await startNativeAgent({ TORPOR_TEST_IDENTITY: file });
    const { stream, pid, begin } = await startWriter(agent.client, 3_000_000);
    await stream.cancel();
    const since = performance.now();
    await begin();
    const identity = { hostname: "another", machineId: "0".repeat(32), generation: "1" };
    assert(succeeded((await agent.client.call({ case: "wake", value: { identity } })).end));
    assertEquals((await follow(agent.client, { pid, afterSequence: 1n })).exitCode, 3);
    assert(performance.now() - since < 29_000);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("a stalled observer holds nobody back and is told what it has missed", async () => {
  await using agent = await startNativeAgent();
  const bytes = 6_000_000;
  const { stream, pid, begin } = await startWriter(agent.client, bytes);
  const observer = await agent.client.open({ case: "attachProcess", value: { pid, afterSequence: 1n } });
  observer.autoCredit = false;
  await begin();
  // The one that holds the process gets everything, while the observer has no credit.
  const whole = await collectRun(stream);
  assertEquals([whole.stdout.length, whole.exitCode], [bytes, 3]);
  observer.autoCredit = true;
  await observer.grant(262_144);
  let received = 0, lost = 0n;
  for await (const event of observer) {
    if (event.case === "processOutput") received += event.value.data.length;
    else if (event.case === "processGap") lost += event.value.lostBytes;
  }
  // One gap or more: the log may also run past the observer while its first credit is being used.
  assert(lost > 0n);
  assertEquals(received + Number(lost), bytes);
});

Deno.test("an attach is refused when it names another start of the pid, or output that has not been written", async () => {
  await using agent = await startNativeAgent();
  const { pid, startedUnixMs, begin } = await startWriter(agent.client, 10, { neverHoldBack: true });
  const attach = async (value: { pid: number; afterSequence: bigint; startedUnixMs: bigint }) =>
    (await agent.client.call({ case: "attachProcess", value })).end.status?.code;
  assertEquals(await attach({ pid, afterSequence: 1n, startedUnixMs: startedUnixMs - 1n }), StatusCode.NOT_FOUND);
  assertEquals(await attach({ pid, afterSequence: 2n, startedUnixMs }), StatusCode.FAILED_PRECONDITION);
  await begin();
  assertEquals(await attach({ pid, afterSequence: 1n, startedUnixMs }), StatusCode.OK);
});

Deno.test("nobody reading never blocks a process; a late reader gets a gap, the tail and the exit", async () => {
  await using agent = await startNativeAgent();
  const bytes = 6_000_000;
  const { stream, pid, begin } = await startWriter(agent.client, bytes, { neverHoldBack: true });
  await stream.cancel();
  await begin();
  // The process can only end if its output is taken without a reader.
  await waitForExit(agent.client, pid);
  const late = await agent.client.open({ case: "attachProcess", value: { pid, afterSequence: 0n } });
  let kept = 0, lost = 0n, next = 1n, exitCode = -1;
  for await (const event of late) {
    if (event.case === "processGap") {
      assertEquals(event.value.firstLostSequence, next);
      next = event.value.lastLostSequence + 1n;
      lost += event.value.lostBytes;
    } else if (event.case === "processOutput") {
      assertEquals(event.value.sequence, next++);
      kept += event.value.data.length;
    } else if (event.case === "processExited") exitCode = event.value.exitCode;
  }
  assertEquals([kept + Number(lost), exitCode], [bytes + "first\n".length, 3]);
  assert(kept > 800_000 && kept <= 1 << 20);
});

async function waitForExit(client: Client, pid: number): Promise<void> {
  while (true) {
    const { events } = await client.call({ case: "listProcesses", value: {} });
    if (events.some((event) => event.case === "processInfo" && event.value.pid === pid && !event.value.running)) return;
  }
}

Deno.test("attach goes on after a sequence number; a new epoch ends streams and not processes", async () => {
  await using agent = await startNativeAgent();
  const stream = await agent.client.open({
    case: "startProcess",
    value: { argv: shell("echo one; read line; echo two; exit 4"), user: "root", stdin: true },
  });
  const started = await stream.next();
  const output = await stream.next();
  assert(started.case === "processStarted" && output.case === "processOutput");
  assertEquals([output.value.sequence, text(output.value.data)], [1n, "one\n"]);
  const pid = started.value.pid;
  const first = await agent.client.hello();
  const second = await agent.client.hello();
  assertEquals(first.bootId, second.bootId);
  const attached = await agent.client.open({ case: "attachProcess", value: { pid, afterSequence: 1n } });
  await agent.client.call({ case: "writeStdin", value: { pid, data: new TextEncoder().encode("go\n"), eof: true } });
  const result = await collectRun(attached);
  assertEquals([text(result.stdout), result.exitCode], ["two\n", 4]);
  const missing = await agent.client.call({ case: "attachProcess", value: { pid: 1, afterSequence: 0n } });
  assertEquals(missing.end.status?.code, StatusCode.NOT_FOUND);
});

Deno.test("a background child that keeps the pipe open does not hold the exit back", async () => {
  await using agent = await startNativeAgent();
  const result = await agent.client.run(shell("sleep 1000 & echo $!"));
  assertEquals([result.exitCode, text(result.stdout).trim() !== ""], [0, true]);
  const kill = await agent.client.run(shell(`kill ${text(result.stdout).trim()}`));
  assertEquals(kill.exitCode, 0);
});

Deno.test("processes are listed with what they were started with", async () => {
  await using agent = await startNativeAgent();
  await agent.client.run(shell("exit 5"), { user: "user" });
  const { events, end } = await agent.client.call({ case: "listProcesses", value: {} });
  const [info] = events;
  assert(succeeded(end) && info?.case === "processInfo");
  const { argv, user, workingDirectory, running, exited, startedUnixMs } = info.value;
  assertEquals([argv, user, workingDirectory, running, exited?.exitCode], [
    shell("exit 5"),
    "user",
    agent.home,
    false,
    5,
  ]);
  assert(Math.abs(Number(startedUnixMs) - Date.now()) < 60_000);
});
