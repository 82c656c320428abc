import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { FileType, StatusCode } from "@torpor/proto/guest";
import { concat, type GuestClient, succeeded } from "./guest_client.ts";
import { startNativeAgent } from "./native_agent.ts";

async function write(client: GuestClient, path: string, bytes: Uint8Array, options: Record<string, unknown> = {}) {
  const stream = await client.open({ case: "writeFile", value: { path, user: "user", ...options } });
  const sending = stream.sendBytes("fileChunk", bytes);
  const events = await Array.fromAsync(stream);
  await sending;
  return { events, status: stream.end!.status!, end: stream.end! };
}

async function read(client: GuestClient, path: string, options: Record<string, unknown> = {}) {
  const { events, end } = await client.call({ case: "readFile", value: { path, user: "user", ...options } });
  const chunks = events.filter((event) => event.case === "fileChunk").map((event) => event.value);
  return { bytes: concat(chunks.map(({ data }) => data)), eof: chunks.at(-1)?.eof, events, status: end.status! };
}

async function names(directory: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name).sort();
}

Deno.test("a file is written whole with its parents and read back", async () => {
  await using agent = await startNativeAgent();
  const bytes = concat(Array.from({ length: 90 }, () => crypto.getRandomValues(new Uint8Array(60_001))));
  const written = await write(agent.client, "deep/er/file", bytes, { mode: 0o640 });
  assert(succeeded(written.end));
  const [entry] = written.events.filter((event) => event.case === "fileEntry");
  assertEquals([entry!.value.name, Number(entry!.value.sizeBytes), entry!.value.mode, entry!.value.owner], [
    "file",
    bytes.length,
    0o640,
    "user",
  ]);
  assertEquals(entry!.value.path, join(agent.home, "deep/er/file"));
  const back = await read(agent.client, join(agent.home, "deep/er/file"));
  assert(back.bytes.length === bytes.length && back.bytes.every((byte, index) => byte === bytes[index]));
  assertEquals([back.events[0]!.case, back.eof], ["fileEntry", true]);
  assertEquals(await names(join(agent.home, "deep/er")), ["file"]);
  assert(written.end.spans.some((span) => span.name === "guest.write_file"));
});

Deno.test("parts of a file, an empty file and a file without a size are read", async () => {
  await using agent = await startNativeAgent();
  await Deno.writeTextFile(join(agent.home, "file"), "0123456789");
  const part = await read(agent.client, "file", { offset: 3n, length: 4n });
  assertEquals([new TextDecoder().decode(part.bytes), part.eof], ["3456", true]);
  const beyond = await read(agent.client, "file", { offset: 8n, length: 400n });
  assertEquals([new TextDecoder().decode(beyond.bytes), beyond.eof], ["89", true]);
  assert(succeeded((await write(agent.client, "empty", new Uint8Array())).end));
  const empty = await read(agent.client, "empty");
  assertEquals([empty.bytes.length, empty.eof], [0, true]);
  assert((await read(agent.client, "/proc/self/status")).bytes.length > 100);
});

Deno.test("an overwritten file keeps its mode, and a symbolic link is written through", async () => {
  await using agent = await startNativeAgent();
  await write(agent.client, "target", new Uint8Array(1), { mode: 0o755 });
  await Deno.symlink("target", join(agent.home, "link"));
  assert(succeeded((await write(agent.client, "link", new Uint8Array(5))).end));
  assert((await Deno.lstat(join(agent.home, "link"))).isSymlink);
  const { size, mode } = await Deno.stat(join(agent.home, "target"));
  assertEquals([size, mode! & 0o7777], [5, 0o755]);
});

Deno.test("file errors have the right status and errno, and are the user's", async () => {
  await using agent = await startNativeAgent();
  const { client, home } = agent;
  const status = ({ status }: { status: { code: StatusCode; errnoValue: number } }) => [status.code, status.errnoValue];
  assertEquals(status(await read(client, "missing")), [StatusCode.NOT_FOUND, 2]);
  assertEquals(status(await read(client, "/etc/shadow")), [StatusCode.PERMISSION_DENIED, 13]);
  assertEquals((await read(client, "/etc/shadow", { user: "root" })).status.code, StatusCode.OK);
  assertEquals(status(await read(client, home)), [StatusCode.FAILED_PRECONDITION, 21]);
  assertEquals(status(await read(client, "")), [StatusCode.INVALID_ARGUMENT, 22]);
  assertEquals(status(await read(client, "x", { user: "nobody-at-all" })), [StatusCode.NOT_FOUND, 2]);
  assertEquals(status(await write(client, home, new Uint8Array(9))), [StatusCode.FAILED_PRECONDITION, 21]);
  assertEquals(status(await write(client, "/etc/new-file", new Uint8Array(9))), [StatusCode.PERMISSION_DENIED, 13]);
  assertEquals(status(await write(client, "/dev/null", new Uint8Array(9), { user: "root" })), [
    StatusCode.INVALID_ARGUMENT,
    22,
  ]);
  await Deno.writeTextFile(join(home, "plain"), "");
  assertEquals(status(await write(client, "plain/below", new Uint8Array(9))), [StatusCode.FAILED_PRECONDITION, 20]);
});

Deno.test("a full disk is reported and leaves nothing behind", async () => {
  await using agent = await startNativeAgent();
  const path = join(agent.smallDirectory, "big");
  const { status } = await write(agent.client, path, new Uint8Array(3_000_000));
  assertEquals([status.code, status.errnoValue], [StatusCode.NO_SPACE, 28]);
  const { events } = await agent.client.call({
    case: "listDirectory",
    value: { path: agent.smallDirectory, user: "user" },
  });
  assertEquals(events, []);
});

Deno.test("a cancelled write and one cut by a new epoch leave no temporary file", async () => {
  await using agent = await startNativeAgent();
  const watcher = Deno.watchFs(agent.home);
  const events = watcher[Symbol.asyncIterator]();
  const happens = async (kind: Deno.FsEvent["kind"]) => {
    for (let event = await events.next(); event.value.kind !== kind; event = await events.next());
  };
  const begin = async (path: string) => {
    const stream = await agent.client.open({ case: "writeFile", value: { path, user: "user" } });
    await stream.send({ case: "fileChunk", value: { data: new Uint8Array(1000) } });
    await happens("create");
    return stream;
  };
  const stream = await begin("first");
  assertEquals((await names(agent.home)).length, 1);
  await stream.cancel();
  await happens("remove");
  assertEquals(await names(agent.home), []);
  await begin("second");
  await agent.client.hello();
  await happens("remove");
  assertEquals(await names(agent.home), []);
  watcher.close();
});

Deno.test("a reader that stalls does not stall other files, and a cancelled read ends its worker", async () => {
  await using agent = await startNativeAgent();
  const stalled = await agent.client.open({ case: "readFile", value: { path: "/dev/zero", user: "user" } });
  stalled.autoCredit = false;
  for (let bytes = 0; bytes < 196_608;) {
    const event = await stalled.next();
    if (event.case === "fileChunk") bytes += event.value.data.length;
  }
  await write(agent.client, "other", new Uint8Array(2_000_000));
  assertEquals((await read(agent.client, "other")).bytes.length, 2_000_000);
  await stalled.cancel();
  // A FIFO blocks its reader in open(2): only a signal ends it.
  assertEquals((await agent.client.run(["mkfifo", join(agent.home, "fifo")])).exitCode, 0);
  const stuck = await agent.client.open({ case: "readFile", value: { path: join(agent.home, "fifo"), user: "root" } });
  assertEquals((await agent.client.call({ case: "ping", value: {} })).events[0]!.case, "pong");
  await stuck.cancel();
  const workers = async () => {
    const { stdout } = await agent.client.run(["sh", "-c", "ps -o stat= --ppid $PPID"]);
    // What is left is the process that counts (and its shell has become ps itself, or not).
    return new TextDecoder().decode(stdout).split("\n").filter((state) => /^[A-Y]/.test(state)).length;
  };
  while (await workers() > 1) continue;
});

Deno.test("a worker that hangs does not outlive its agent", async () => {
  const agent = await startNativeAgent();
  const fifo = join(agent.home, "fifo");
  await agent.client.run(["mkfifo", fifo]);
  await agent.client.open({ case: "readFile", value: { path: fifo, user: "user" } });
  const find = async () => {
    const { stdout } = await new Deno.Command("pgrep", { args: ["-u", "64321", "-f", agent.home.replace(/home$/, "")] })
      .output();
    return new TextDecoder().decode(stdout).trim();
  };
  while (await find() === "") continue;
  await agent[Symbol.asyncDispose]();
  while (await find() !== "") continue;
});

Deno.test("a directory is listed by name, as deep as asked", async () => {
  await using agent = await startNativeAgent();
  await Deno.mkdir(join(agent.home, "b/c/d"), { recursive: true });
  await Deno.writeTextFile(join(agent.home, "a"), "abc");
  await Deno.symlink("nowhere", join(agent.home, "z"));
  await Deno.symlink("b", join(agent.home, "b/loop"));
  await agent.client.run(["bash", "-c", `touch '${agent.home}/'$'y\\xff'`]);
  const list = async (depth: number) => {
    const { events, end } = await agent.client.call({
      case: "listDirectory",
      value: { path: agent.home, user: "user", depth },
    });
    assert(succeeded(end));
    return events.map((event) => event.case === "fileEntry" ? event.value : undefined!);
  };
  const entries = await list(0);
  assertEquals(entries.map(({ name }) => name), ["a", "b", "y\ufffd", "z"]);
  assertEquals(entries.map(({ type }) => type), [FileType.FILE, FileType.DIRECTORY, FileType.FILE, FileType.SYMLINK]);
  assertEquals([entries[0]!.sizeBytes, entries[3]!.symlinkTarget], [3n, "nowhere"]);
  assertEquals((await list(2)).map(({ name }) => name), ["a", "b", "c", "loop", "y\ufffd", "z"]);
  assertEquals((await list(9)).length, 7);
  const missing = await agent.client.call({ case: "listDirectory", value: { path: "missing", user: "user" } });
  assertEquals(missing.end.status?.code, StatusCode.NOT_FOUND);
});

Deno.test("a symbolic link is described itself", async () => {
  await using agent = await startNativeAgent();
  await Deno.symlink("/etc/shadow", join(agent.home, "link"));
  const { events } = await agent.client.call({ case: "statFile", value: { path: "link", user: "user" } });
  const [event] = events;
  assert(event?.case === "fileEntry");
  assertEquals([event.value.type, event.value.symlinkTarget], [FileType.SYMLINK, "/etc/shadow"]);
});

Deno.test("directories are made with their parents and removed only when asked to with what is in them", async () => {
  await using agent = await startNativeAgent();
  const make = async (path: string) =>
    (await agent.client.call({ case: "makeDirectory", value: { path, user: "user" } })).end.status!;
  const remove = async (path: string, recursive: boolean) =>
    (await agent.client.call({ case: "removeFile", value: { path, user: "user", recursive } })).end.status!;
  assertEquals((await make("one/two/three")).code, StatusCode.OK);
  assertEquals((await make("one/two")).code, StatusCode.OK);
  await Deno.writeTextFile(join(agent.home, "one/file"), "");
  await Deno.symlink("/", join(agent.home, "one/root"));
  const exists = await make("one/file");
  assertEquals([exists.code, exists.errnoValue], [StatusCode.ALREADY_EXISTS, 17]);
  const full = await remove("one", false);
  assertEquals([full.code, full.errnoValue], [StatusCode.FAILED_PRECONDITION, 39]);
  assertEquals((await remove("one", true)).code, StatusCode.OK);
  assertEquals(await names(agent.home), []);
  assertEquals((await remove("one", true)).code, StatusCode.NOT_FOUND);
  assertEquals((await remove("/", true)).code, StatusCode.FAILED_PRECONDITION);
  assertEquals((await make("/etc/not-mine")).code, StatusCode.PERMISSION_DENIED);
});
