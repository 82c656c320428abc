import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { type GuestService, startGuestService } from "../guest/testing/guest_service.ts";
import { TEST_USER } from "../guest/testing/native_agent.ts";

const user = TEST_USER;
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

function serviceTest(name: string, work: (service: GuestService) => Promise<void>): void {
  Deno.test(name, async () => {
    await using service = await startGuestService({ ORIGIN: "sandbox", BOTH: "sandbox" });
    await work(service);
  });
}

async function errorOf(call: Promise<unknown>): Promise<TorporError> {
  return await assertRejects(() => call, TorporError);
}

serviceTest("a command line runs in a login shell, arguments run as they are", async ({ client, sandboxId }) => {
  const shell = await client.exec({ sandboxId, user, cmd: "shopt -q login_shell && echo login; echo $1 >&2; exit 4" });
  assertEquals([text(shell.stdout), text(shell.stderr), shell.exitCode, shell.signal], ["login\n", "\n", 4, 0]);
  assert(shell.pid > 0);
  const direct = await client.exec({ sandboxId, user, cmd: "printf", args: ["%s|", "a b", "$HOME"] });
  assertEquals(text(direct.stdout), "a b|$HOME|");
});

serviceTest("the call's environment comes after the sandbox's", async ({ client, sandboxId }) => {
  const cmd = 'echo "$ORIGIN $BOTH $CALL"';
  const reply = await client.exec({ sandboxId, user, cmd, env: { BOTH: "call", CALL: "call" } });
  assertEquals(text(reply.stdout), "sandbox call call\n");
});

serviceTest("stdin, working directory, binary output", async ({ client, sandboxId, agent }) => {
  const stdin = crypto.getRandomValues(new Uint8Array(65_536));
  const cat = await client.exec({ sandboxId, user, cmd: "cat", args: ["-"], stdin });
  assertEquals(cat.stdout, stdin);
  const pwd = await client.exec({ sandboxId, user, cmd: "pwd", workingDirectory: agent.directory });
  assertEquals(text(pwd.stdout), `${agent.directory}\n`);
  // It ends without reading what it is sent.
  assertEquals((await client.exec({ sandboxId, user, cmd: "true", stdin: new Uint8Array(1_000_000) })).exitCode, 0);
});

serviceTest("exits by signal and by timeout", async ({ client, sandboxId }) => {
  const killed = await client.exec({ sandboxId, user, cmd: "kill -TERM $$" });
  assertEquals([killed.exitCode, killed.signal, killed.timedOut], [143, 15, false]);
  const late = await client.exec({ sandboxId, user, cmd: "echo begun; sleep 1000", timeoutSec: 1 });
  assertEquals([late.exitCode, late.signal, late.timedOut, text(late.stdout)], [137, 9, true, "begun\n"]);
});

serviceTest("output above 64 MiB is refused and its process killed", async ({ client, sandboxId, channel }) => {
  const error = await errorOf(client.exec({ sandboxId, user, cmd: "exec cat /dev/zero" }));
  assertEquals(error.code, "output_too_large");
  const [process] = await channel.listProcesses();
  const attached = await channel.attachProcess(process!.pid);
  for await (const event of attached) if (event.type === "exited") assertEquals(event.signal, 9);
});

serviceTest("bad input is refused with its field", async ({ client, sandboxId }) => {
  const bad: [Parameters<typeof client.exec>[0], string][] = [
    [{ cmd: "" }, "cmd"],
    [{ cmd: "a\0b" }, "cmd"],
    [{ cmd: "a", args: ["x\0"] }, "cmd"],
    [{ cmd: "x".repeat(70_000) }, "cmd"],
    [{ cmd: "a", args: Array(5000).fill("") }, "cmd"],
    [{ cmd: "a", env: { "": "x" } }, "env"],
    [{ cmd: "a", env: { "a=b": "x" } }, "env"],
    [{ cmd: "a", env: { a: "x\0" } }, "env"],
    [{ cmd: "a", timeoutSec: -1 }, "timeout_sec"],
    [{ cmd: "a", timeoutSec: 604_801 }, "timeout_sec"],
    [{ cmd: "a", user: "x".repeat(64) }, "user"],
    [{ cmd: "a", user: "a:b" }, "user"],
    [{ cmd: "a", workingDirectory: "/".repeat(5000) }, "working_directory"],
  ];
  for (const [request, field] of bad) {
    const error = await errorOf(client.exec({ sandboxId, ...request }));
    assertEquals([error.code, error.field], ["invalid_argument", field]);
  }
  const signal = await errorOf(client.signalProcess({ sandboxId, pid: 1, signal: 65 }));
  assertEquals([signal.code, signal.field], ["invalid_argument", "signal"]);
  const pid = await errorOf(client.sendProcessInput({ sandboxId, pid: 0 }));
  assertEquals([pid.code, pid.field], ["invalid_argument", "pid"]);
});

serviceTest("a command as long as allowed passes", async ({ client, sandboxId }) => {
  const reply = await client.exec({ sandboxId, user, cmd: `: ${"x".repeat(61_000)}; echo $ORIGIN` });
  assertEquals(text(reply.stdout), "sandbox\n");
});

serviceTest("what does not exist is told apart", async ({ client, sandboxId }) => {
  assertEquals((await errorOf(client.exec({ sandboxId: newId(), cmd: "true" }))).code, "sandbox_not_found");
  assertEquals((await errorOf(client.exec({ sandboxId, user, cmd: "/no/such", args: ["x"] }))).code, "file_not_found");
  assertEquals((await errorOf(client.exec({ sandboxId, user: "nobody-here", cmd: "true" }))).code, "file_not_found");
  assertEquals((await errorOf(client.signalProcess({ sandboxId, pid: 1, signal: 9 }))).code, "process_not_found");
  const stream = client.execStream({ sandboxId: newId(), cmd: "true" })[Symbol.asyncIterator]();
  assertEquals((await errorOf(stream.next())).code, "sandbox_not_found");
});

serviceTest("a stream: start, numbered output, input while it runs, end", async ({ client, sandboxId, uses }) => {
  const events = client.execStream({
    sandboxId,
    user,
    cmd: "echo ready; read a; echo got $a >&2; exit 2",
    stdin: true,
  });
  let pid = 0;
  const seen: unknown[] = [];
  for await (const { event } of events) {
    if (event.case === "start") pid = event.value.pid;
    else if (event.case === "data") {
      seen.push([event.value.output.case, text(event.value.output.value!), event.value.sequence]);
      if (event.value.sequence > 1n) continue;
      assertEquals(uses(), 1);
      const [process] = (await client.listProcesses({ sandboxId })).processes;
      assertEquals([process!.pid, process!.running], [pid, true]);
      await client.sendProcessInput({ sandboxId, pid, data: new TextEncoder().encode("it\n"), eof: true });
    } else if (event.case === "end") seen.push([event.value.exitCode, event.value.signal, event.value.timedOut]);
  }
  assertEquals(seen, [["stdout", "ready\n", 1n], ["stderr", "got it\n", 2n], [2, 0, false]]);
  assertEquals(uses(), 0);
});

serviceTest("stdin_bytes are all of stdin, unless it stays open", async ({ client, sandboxId }) => {
  const stdinBytes = new TextEncoder().encode("given");
  let output = "";
  for await (const { event } of client.execStream({ sandboxId, user, cmd: "cat", stdinBytes })) {
    if (event.case === "data") output += text(event.value.output.value!);
  }
  assertEquals(output, "given");
});

serviceTest("a client that leaves does not end its process, and its stream is let go", async (service) => {
  const { client, sandboxId, channel, uses } = service;
  const controller = new AbortController();
  const cmd = "echo $$; read; echo survived";
  const events = client.execStream({ sandboxId, user, cmd, stdin: true }, { signal: controller.signal });
  const iterator = events[Symbol.asyncIterator]();
  const start = (await iterator.next()).value!.event;
  assert(start.case === "start");
  await iterator.next();
  controller.abort();
  assertEquals((await errorOf(iterator.next())).code, "canceled");
  const { pid } = start.value;
  await client.sendProcessInput({ sandboxId, pid, data: new Uint8Array([10]), eof: true });
  let output = "";
  for await (const event of await channel.attachProcess(pid)) {
    if (event.type === "output") output += text(event.data);
    if (event.type === "exited") assertEquals([event.exitCode, event.signal], [0, 0]);
  }
  assert(output.endsWith("survived\n"));
  while (uses() > 0) await channel.ping();
});

/** The output of an attached process, and the kinds of its events. */
async function attachTo(service: GuestService, request: { pid: number; afterSequence?: bigint; holdBack?: boolean }) {
  const kinds: unknown[] = [];
  let output = "";
  for await (const { event } of service.client.attachProcess({ sandboxId: service.sandboxId, ...request })) {
    kinds.push(event.case);
    if (event.case === "data") output += text(event.value.output.value!);
  }
  return { kinds, output };
}

serviceTest("an attach goes on behind the event that was received last", async (service) => {
  const { client, sandboxId } = service;
  const events = client.execStream({ sandboxId, user, cmd: "echo one; read; echo two; read; echo three", stdin: true });
  const iterator = events[Symbol.asyncIterator]();
  const start = (await iterator.next()).value!.event;
  assert(start.case === "start" && start.value.startedAtUnixMs > 0n);
  const { pid, startedAtUnixMs } = start.value;
  const data = (await iterator.next()).value!.event;
  assert(data.case === "data");
  await client.sendProcessInput({ sandboxId, pid, data: new TextEncoder().encode("\n\n"), eof: true });
  for (let next = await iterator.next(); !next.done; next = await iterator.next());
  const { sequence } = data.value;
  assertEquals(await attachTo(service, { pid, afterSequence: sequence }), {
    kinds: ["start", "data", "end"],
    output: "two\nthree\n",
  });
  assertEquals((await attachTo(service, { pid })).output, "one\ntwo\nthree\n");
  const attach = (request: { pid: number; afterSequence?: bigint; startedAtUnixMs?: bigint }) =>
    errorOf(client.attachProcess({ sandboxId, ...request })[Symbol.asyncIterator]().next());
  assertEquals((await attach({ pid: 0 })).field, "pid");
  assertEquals((await attach({ pid, startedAtUnixMs: startedAtUnixMs + 1n })).code, "process_not_found");
  assertEquals((await attach({ pid, afterSequence: 1000n })).code, "conflict");
});

serviceTest("a reader that does not hold its process back gets a gap", async (service) => {
  const { client, sandboxId } = service;
  const cmd = "head -c 4000000 /dev/zero; echo end >&2";
  const events = client.execStream({ sandboxId, user, cmd, holdBack: false })[Symbol.asyncIterator]();
  const start = (await events.next()).value!.event;
  assert(start.case === "start");
  // It ends though its stream is not read: what the stream has no room for is not waited for.
  const wait = `while kill -0 ${start.value.pid} 2>/dev/null; do read -t 0.01 <> <(:); done; true`;
  assertEquals((await client.exec({ sandboxId, user, cmd: wait })).exitCode, 0);
  let [bytes, lost, gaps] = [0, 0n, 0];
  for (let next = await events.next(); !next.done; next = await events.next()) {
    const { event } = next.value;
    if (event.case === "data") bytes += event.value.output.value!.length;
    else if (event.case === "gap") [lost, gaps] = [lost + event.value.lostBytes, gaps + 1];
  }
  // Room that comes while it writes parts what is lost into several gaps.
  assert(gaps >= 1);
  assertEquals(bytes + Number(lost), 4_000_004);
});

serviceTest("a pause of the sandbox ends a stream with an event of its own", async ({ client, sandboxId, channel }) => {
  const events = client.execStream({ sandboxId, user, cmd: "exec sleep 1000" })[Symbol.asyncIterator]();
  await events.next();
  const collected = errorOf(client.exec({ sandboxId, user, cmd: "exec sleep 1000" }));
  while ((await channel.listProcesses()).length < 2) continue;
  await channel.close(new TorporError("sandbox_paused", "paused"));
  assertEquals((await events.next()).value?.event.case, "paused");
  assertEquals((await events.next()).done, true);
  assertEquals((await collected).code, "sandbox_paused");
});

serviceTest("a stream whose guest goes away breaks, it does not end", async ({ client, sandboxId, agent }) => {
  const events = client.execStream({ sandboxId, user, cmd: "sleep 1000" })[Symbol.asyncIterator]();
  await events.next();
  agent.disconnectHost();
  assertEquals((await errorOf(events.next())).code, "guest_unreachable");
});

serviceTest(
  "50 MB of output, collected and streamed, come unchanged",
  async ({ client, sandboxId, channel, agent }) => {
    const bytes = new Uint8Array(50_000_000);
    for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
    const path = `${agent.directory}/big`;
    await channel.writeFile(path, bytes, { user });
    const expected = await crypto.subtle.digest("SHA-256", bytes);
    let begin = performance.now();
    const rate = () => `${(50_000 / (performance.now() - begin)).toFixed(0)} MB/s`;
    const { stdout } = await client.exec({ sandboxId, user, cmd: "cat", args: [path] });
    console.log(`exec: ${rate()}`);
    assertEquals(await crypto.subtle.digest("SHA-256", stdout.slice()), expected);
    begin = performance.now();
    const streamed = new Uint8Array(bytes.length);
    let at = 0;
    for await (const { event } of client.execStream({ sandboxId, user, cmd: "cat", args: [path] })) {
      if (event.case !== "data") continue;
      streamed.set(event.value.output.value!, at);
      at += event.value.output.value!.length;
    }
    console.log(`exec stream: ${rate()}`);
    assertEquals(await crypto.subtle.digest("SHA-256", streamed), expected);
  },
);
