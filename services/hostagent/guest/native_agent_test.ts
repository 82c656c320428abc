// The host end against the real agent, run as a program of this machine.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { FileType } from "@torpor/proto/guest";
import { type GuestChannel, openGuestChannel, type ProcessEvent, type ProcessStream } from "./mod.ts";
import { type NativeAgent, startNativeAgent, TEST_USER } from "./testing/native_agent.ts";

const user = TEST_USER;
const BIG_BYTES = 50_000_000;
const decoder = new TextDecoder();

function open(agent: NativeAgent): Promise<GuestChannel> {
  return openGuestChannel({ socketPath: agent.socketPath, signal: AbortSignal.timeout(30_000) });
}

function agentTest(name: string, work: (channel: GuestChannel, agent: NativeAgent) => Promise<void>): void {
  Deno.test(name, async () => {
    await using agent = await startNativeAgent();
    await using channel = await open(agent);
    await work(channel, agent);
  });
}

function bash(
  channel: GuestChannel,
  script: string,
  more: { stdin?: boolean; timeoutMs?: number; holdBack?: boolean } = {},
) {
  return channel.startProcess({ argv: ["/bin/bash", "-c", script], user, ...more });
}

async function run(process: ProcessStream): Promise<{ stdout: Uint8Array; stderr: Uint8Array; exited: ProcessEvent }> {
  const pieces: Record<"stdout" | "stderr", Uint8Array[]> = { stdout: [], stderr: [] };
  let exited: ProcessEvent | undefined;
  for await (const event of process) {
    if (event.type === "output") pieces[event.stream].push(event.data);
    else exited = event;
  }
  return { stdout: concatenate(pieces.stdout), stderr: concatenate(pieces.stderr), exited: exited! };
}

function concatenate(pieces: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes;
}

/** Compares without assertEquals' difference, which takes minutes for millions of bytes. */
function assertSameBytes(actual: Uint8Array, expected: Uint8Array): void {
  assertEquals(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) if (actual[i] !== expected[i]) throw new Error(`byte ${i} differs`);
}

async function measured<T>(what: string, work: () => Promise<T>): Promise<T> {
  const begin = performance.now();
  const result = await work();
  console.log(`${what}: ${(BIG_BYTES / 1000 / (performance.now() - begin)).toFixed(0)} MB/s`);
  return result;
}

agentTest("a process: both outputs, exit code, environment, directory", async (channel, agent) => {
  const process = await channel.startProcess({
    argv: ["/bin/bash", "-c", 'echo "$A $PWD"; echo oops >&2; exit 3'],
    environment: { A: "b" },
    workingDirectory: agent.directory,
    user,
  });
  const { stdout, stderr, exited } = await run(process);
  assertEquals([decoder.decode(stdout), decoder.decode(stderr)], [`b ${agent.directory}\n`, "oops\n"]);
  assertEquals(exited, { type: "exited", exitCode: 3, signal: 0, timedOut: false });
  const [listed] = await channel.listProcesses();
  assertEquals([listed!.pid, listed!.running, listed!.exited?.exitCode], [process.pid, false, 3]);
});

agentTest("signals and timeouts are told apart from exit codes", async (channel) => {
  const sleeper = await bash(channel, "exec sleep 1000");
  await channel.signalProcess(sleeper.pid, 15);
  assertEquals((await run(sleeper)).exited, { type: "exited", exitCode: 0, signal: 15, timedOut: false });
  const late = await bash(channel, "sleep 1000 & wait", { timeoutMs: 50 });
  assertEquals((await run(late)).exited, { type: "exited", exitCode: 0, signal: 9, timedOut: true });
  const ended = await assertRejects(() => channel.signalProcess(late.pid, 9), TorporError);
  assertEquals(ended.code, "conflict");
  assertEquals((await assertRejects(() => channel.signalProcess(1, 9), TorporError)).code, "process_not_found");
});

agentTest("a program that does not exist is file_not_found with ENOENT", async (channel) => {
  const error = await assertRejects(() => channel.startProcess({ argv: ["/no/such"], user }), TorporError);
  assertEquals([error.code, (error.cause as { errno: number }).errno], ["file_not_found", 2]);
});

agentTest("50 MB through a process's stdin and stdout", async (channel) => {
  const bytes = randomBytes(BIG_BYTES);
  const process = await bash(channel, "exec cat", { stdin: true });
  const { stdout, exited } = await measured("stdin and stdout of cat", async () => {
    const feeding = process.writeStdin(bytes).then(() => process.closeStdin());
    const result = await run(process);
    await feeding;
    return result;
  });
  assertSameBytes(stdout, bytes);
  assert(exited.type === "exited" && exited.exitCode === 0);
});

agentTest("50 MB into a file and back, random and all zero", async (channel, agent) => {
  for (const [name, bytes] of [["random", randomBytes(BIG_BYTES)], ["zero", new Uint8Array(BIG_BYTES)]] as const) {
    const path = join(agent.directory, name);
    const entry = await measured(`write ${name}`, () => channel.writeFile(path, bytes, { user }));
    assertEquals([entry.sizeBytes, entry.type, entry.path], [BigInt(BIG_BYTES), FileType.FILE, path]);
    const opened = await channel.readFile(path, { user });
    const back = await measured(`read ${name}`, async () => await new Response(opened.body).bytes());
    assertSameBytes(back, bytes);
  }
});

agentTest("stdin by number, and its end", async (channel) => {
  const process = await bash(channel, "exec cat", { stdin: true });
  const bytes = randomBytes(200_000);
  const reading = run(process);
  await channel.writeStdin(process.pid, bytes, false);
  await channel.writeStdin(process.pid, new Uint8Array(0), true);
  assertSameBytes((await reading).stdout, bytes);
  const closed = await assertRejects(() => channel.writeStdin(process.pid, bytes, true), TorporError);
  assertEquals(closed.code, "conflict");
});

agentTest("writing to a process that has ended is refused", async (channel) => {
  const process = await bash(channel, "exit 0", { stdin: true });
  await run(process);
  const error = await assertRejects(() => process.writeStdin(new Uint8Array(1)), TorporError);
  assertEquals(error.code, "conflict");
});

agentTest("a reader that stalls holds back its process and nothing else", async (channel) => {
  const stalled = await bash(channel, "head -c 30000000 /dev/zero");
  const events = stalled[Symbol.asyncIterator]();
  await events.next();
  // The other requests pass while megabytes wait.
  const bytes = randomBytes(3_000_000);
  const echo = await bash(channel, "exec cat", { stdin: true });
  const feeding = echo.writeStdin(bytes).then(() => echo.closeStdin());
  assertSameBytes((await run(echo)).stdout, bytes);
  await feeding;
  const info = (await channel.listProcesses()).find(({ pid }) => pid === stalled.pid);
  assertEquals(info?.running, true);
  let length = 0;
  for (let next = await events.next(); !next.done; next = await events.next()) {
    if (next.value.type === "output") length += next.value.data.length;
  }
  assert(length > 29_000_000 && length < 30_000_000, "the rest came, without the first event");
});

agentTest("a file that nobody reads on holds back nothing, and can be dropped", async (channel, agent) => {
  const path = join(agent.directory, "large");
  await channel.writeFile(path, randomBytes(5_000_000), { user });
  const { body } = await channel.readFile(path, { user });
  const reader = body.getReader();
  await reader.read();
  assertEquals(
    await new Response((await channel.readFile(path, { user, offset: 4_999_990 })).body).bytes().then((b) => b.length),
    10,
  );
  await reader.cancel();
  assertEquals((await channel.stat(path, { user })).sizeBytes, 5_000_000n);
});

agentTest("ranges of a file", async (channel, agent) => {
  const path = join(agent.directory, "range");
  await channel.writeFile(path, new TextEncoder().encode("0123456789"), { user });
  const { body } = await channel.readFile(path, { user, offset: 2, length: 3 });
  assertEquals(await new Response(body).text(), "234");
});

agentTest("processes outlive the connection, and attach replays what was missed", async (channel, agent) => {
  const process = await bash(channel, "echo one; read line; echo got $line; exit 5", { stdin: true });
  const events = process[Symbol.asyncIterator]();
  const first = (await events.next()).value;
  assert(first?.type === "output" && decoder.decode(first.data) === "one\n");
  agent.disconnectHost();
  assertEquals((await assertRejects(() => events.next(), TorporError)).code, "guest_unreachable");
  assertEquals((await channel.closed)?.code, "guest_unreachable");

  await using second = await open(agent);
  assertEquals(second.bootId, channel.bootId);
  const attached = await second.attachProcess(process.pid, {
    afterSequence: first.sequence,
    startedUnixMs: process.startedUnixMs,
  });
  await second.writeStdin(process.pid, new TextEncoder().encode("two\n"), true);
  const { stdout, exited } = await run(attached);
  assertEquals(decoder.decode(stdout), "got two\n");
  assertEquals(exited, { type: "exited", exitCode: 5, signal: 0, timedOut: false });
  assertEquals(decoder.decode((await run(await second.attachProcess(process.pid))).stdout), "one\ngot two\n");
  assertEquals((await assertRejects(() => second.attachProcess(1), TorporError)).code, "process_not_found");
});

agentTest("a new host end finds the next frame after a cut in the middle of much data", async (channel, agent) => {
  const path = join(agent.directory, "much");
  await channel.writeFile(path, randomBytes(8_000_000), { user });
  await channel[Symbol.asyncDispose]();
  for (let round = 0; round < 5; round++) {
    await using cut = await open(agent);
    const { body } = await cut.readFile(path, { user });
    const reader = body.getReader();
    await reader.read();
    agent.disconnectHost();
    await assertRejects(async () => {
      while (!(await reader.read()).done);
    }, TorporError);
    await using again = await open(agent);
    assertEquals((await again.stat(path, { user })).sizeBytes, 8_000_000n);
  }
});

agentTest("output that left the log is a gap", async (channel) => {
  const process = await bash(channel, "head -c 4000000 /dev/zero; echo end >&2", { holdBack: false });
  process.cancel();
  const ended = await bash(channel, `while kill -0 ${process.pid} 2>/dev/null; do read -t 0.01 <> <(:); done`);
  await run(ended);
  const events: ProcessEvent[] = [];
  for await (const event of await channel.attachProcess(process.pid)) events.push(event);
  assert(events[0]!.type === "gap" && events[0]!.lostBytes > 1_000_000n);
  assertEquals(events.at(-1)!.type, "exited");
  const startedUnixMs = process.startedUnixMs - 1n;
  const refusals = [{ startedUnixMs }, { afterSequence: 1_000_000n }].map(async (options) =>
    (await assertRejects(() => channel.attachProcess(process.pid, options), TorporError)).code
  );
  assertEquals(await Promise.all(refusals), ["process_not_found", "conflict"]);
});

agentTest("files: stat, list, make, remove, and their errors", async (channel, agent) => {
  const at = (name: string) => join(agent.directory, name);
  await channel.makeDirectory(at("a/b"), { user });
  await channel.writeFile(at("a/deep/er/file"), new Uint8Array(3), { user, mode: 0o600 });
  await Deno.symlink("deep", at("a/link"));
  const listed = await channel.listDirectory(at("a"), { user });
  assertEquals(listed.map(({ name, type }) => [name, type]), [
    ["b", FileType.DIRECTORY],
    ["deep", FileType.DIRECTORY],
    ["link", FileType.SYMLINK],
  ]);
  const entry = await channel.stat(at("a/deep/er/file"), { user });
  assertEquals([entry.mode & 0o777, entry.sizeBytes], [0o600, 3n]);
  assertEquals((await channel.stat(at("a/link"), { user })).symlinkTarget, "deep");
  assertEquals((await channel.listDirectory(at("a"), { user, depth: 3 })).length, 5);

  const codeOf = async (call: Promise<unknown>) => (await assertRejects(() => call, TorporError)).code;
  assertEquals(await codeOf(channel.stat(at("none"), { user })), "file_not_found");
  assertEquals(await codeOf(channel.readFile(at("none"), { user })), "file_not_found");
  assertEquals(await codeOf(channel.readFile(at("a"), { user })), "file_precondition");
  assertEquals(await codeOf(channel.writeFile(at("a"), new Uint8Array(1), { user })), "file_precondition");
  assertEquals(
    await codeOf(channel.writeFile(at("a/deep/er/file/x"), new Uint8Array(1), { user })),
    "file_precondition",
  );
  assertEquals(await codeOf(channel.listDirectory(at("a/deep/er/file"), { user })), "file_precondition");
  assertEquals(await codeOf(channel.removeFile(at("a"), { user })), "file_precondition");
  await channel.removeFile(at("a"), { user, recursive: true });
  assertEquals(await codeOf(channel.stat(at("a"), { user })), "file_not_found");
});

agentTest("a write that is given up leaves no file behind", async (channel, agent) => {
  const controller = new AbortController();
  const sent = Promise.withResolvers<void>();
  const content = new ReadableStream<Uint8Array>({
    start: (stream) => stream.enqueue(new Uint8Array(1000)),
    pull: () => {
      sent.resolve();
      return new Promise(() => {});
    },
  }, { highWaterMark: 0 });
  const path = join(agent.directory, "half");
  const writing = channel.writeFile(path, content, { user, signal: controller.signal });
  await sent.promise;
  controller.abort();
  assertEquals((await assertRejects(() => writing, TorporError)).code, "canceled");
  // The worker notices when its socket closes; the directory is empty from then on.
  for (;;) {
    if ((await channel.listDirectory(agent.directory, { user })).length === 0) break;
  }
});

agentTest("ping, metrics, clock, sync", async (channel) => {
  assert((await channel.ping()).uptimeMs > 0n);
  const metrics = await channel.metrics();
  assert(metrics.memoryTotalBytes > 0n && metrics.cpuCount > 0);
  const unixNs = () => BigInt(Date.now() + 3_600_000) * 1_000_000n;
  const { behindMs, thawed } = await channel.wake({ unixNs, entropy: randomBytes(32), thaw: true });
  assert(!thawed, "nothing was frozen");
  assert(behindMs > 3_500_000 && behindMs <= 3_600_000, `${behindMs} ms`);
  await channel.sync();
});
