import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { StatusCode } from "@torpor/proto/guest";
import { encodeFrame } from "./framing.ts";
import { INITIAL_CREDIT_BYTES, MAX_LISTING_ENTRIES, MAX_STREAMS } from "./limits.ts";
import type { GuestChannel, ProcessEvent, ProcessStream } from "./mod.ts";
import { type BodyInit, FakeGuest, frameBytes } from "./testing/fake_guest.ts";

const output = (sequence: number, data: Uint8Array, stream = 1): BodyInit => ({
  case: "processOutput",
  value: { sequence: BigInt(sequence), stream, data },
});
const started: BodyInit = { case: "processStarted", value: { pid: 42 } };
const exited: BodyInit = { case: "processExited", value: {} };
const pong: BodyInit = { case: "pong", value: {} };
const ok: BodyInit = { case: "end", value: { status: { code: StatusCode.OK } } };
const kib64 = new Uint8Array(65_536);

/** Starts a process against the fake guest. */
async function startProcess(guest: FakeGuest, channel: GuestChannel): Promise<{ process: ProcessStream; id: number }> {
  const starting = channel.startProcess({ argv: ["x"] });
  const { streamId } = await guest.receive("open");
  await guest.send(streamId, started);
  return { process: await starting, id: streamId };
}

async function readAll(process: ProcessStream): Promise<ProcessEvent[]> {
  const events: ProcessEvent[] = [];
  for await (const event of process) events.push(event);
  return events;
}

/** What a guest does wrong on the stream of a running process. */
const violations: Record<string, (guest: FakeGuest, id: number) => Promise<void>> = {
  "a frame for a stream that was never opened": (guest, id) => guest.send(id + 100, pong),
  "a frame for stream 0": (guest) => guest.send(0, pong),
  "a second HelloReply": (guest) => guest.send(0, { case: "helloReply", value: { epoch: 1n } }),
  "two ends": (guest, id) => guest.send(id, exited, ok, ok),
  "an event behind the end": (guest, id) => guest.send(id, exited, ok, output(1, kib64)),
  "output behind the exit": (guest, id) => guest.send(id, exited, output(1, kib64)),
  "an end without a status": (guest, id) => guest.send(id, { case: "end", value: {} }),
  "success without an exit": (guest, id) => guest.send(id, ok),
  "a second start": (guest, id) => guest.send(id, started),
  "an event of another request": (guest, id) => guest.send(id, pong),
  "a request, as if it were the host": (guest, id) => guest.send(id, { case: "open", value: {} }),
  "an empty frame": (guest, id) => guest.send(id, { case: undefined }),
  "more data than credit": (guest, id) => guest.send(id, ...[1, 2, 3, 4, 5].map((n) => output(n, kib64))),
  "a data field above the limit": (guest, id) => guest.send(id, output(1, new Uint8Array(65_537))),
  "output numbers with a hole": (guest, id) => guest.send(id, output(1, kib64), output(3, kib64)),
  "an output number twice": (guest, id) => guest.send(id, output(1, kib64), output(1, kib64)),
  "a gap that runs backwards": (guest, id) =>
    guest.send(id, { case: "processGap", value: { firstLostSequence: 1n, lastLostSequence: 0n } }),
  "output of an unknown stream": (guest, id) => guest.send(id, output(1, kib64, 3)),
  "credit that was never used": (guest, id) => guest.send(id, { case: "credit", value: { bytes: 1 } }),
  "a frame that is no protobuf": (guest) => guest.sendBytes(encodeFrame(new Uint8Array([255, 255]))),
  "a damaged frame": (guest, id) => {
    const bytes = frameBytes(id, output(1, kib64));
    bytes[100]! ^= 1;
    return guest.sendBytes(bytes);
  },
  "a frame without end": (guest) => guest.sendBytes(new Uint8Array(200_000).fill(255)),
};

for (const [name, violate] of Object.entries(violations)) {
  Deno.test(`${name} closes the channel`, async () => {
    await using guest = await FakeGuest.start();
    await using channel = await guest.open();
    const { process, id } = await startProcess(guest, channel);
    const bystander = assertRejects(() => channel.ping(), TorporError);
    await violate(guest, id);
    assertEquals((await channel.closed)?.code, "guest_protocol");
    const failed = await bystander;
    assertEquals([failed.code, (failed.cause as TorporError).code], ["guest_unreachable", "guest_protocol"]);
    assertEquals((await assertRejects(() => channel.ping(), TorporError)).code, "guest_unreachable");
    process.cancel();
  });
}

Deno.test("a connection that ends in the middle fails every request, never as a clean end", async () => {
  await using guest = await FakeGuest.start();
  await using channel = await guest.open();
  const { process, id } = await startProcess(guest, channel);
  const reading = channel.readFile("/x");
  const open = await guest.receive("open");
  await guest.send(open.streamId, { case: "fileEntry", value: { sizeBytes: 100n } });
  await guest.send(open.streamId, { case: "fileChunk", value: { data: new Uint8Array(50) } });
  await guest.send(id, output(1, new Uint8Array(10)));
  const { body } = await reading;
  const reader = body.getReader();
  assertEquals((await reader.read()).value?.length, 50);
  guest.hangUp();
  assertEquals((await assertRejects(() => reader.read(), TorporError)).code, "guest_unreachable");
  const events: ProcessEvent[] = [];
  const cut = await assertRejects(async () => {
    for await (const event of process) events.push(event);
  }, TorporError);
  assertEquals([events.length, cut.code], [1, "guest_unreachable"]);
  assertEquals((await channel.closed)?.code, "guest_unreachable");
});

Deno.test("disposing the channel is no error, yet fails what is open", async () => {
  await using guest = await FakeGuest.start();
  const channel = await guest.open();
  const ping = assertRejects(() => channel.ping(), TorporError);
  await channel[Symbol.asyncDispose]();
  assertEquals([await channel.closed, (await ping).code], [undefined, "guest_unreachable"]);
});

Deno.test("a reader that stalls gets its first credit and no more, and delays nobody", async () => {
  await using guest = await FakeGuest.start();
  await using channel = await guest.open();
  const { process, id } = await startProcess(guest, channel);
  const sent = INITIAL_CREDIT_BYTES / kib64.length;
  for (let i = 1; i <= sent; i++) await guest.send(id, output(i, kib64));
  const ping = channel.ping();
  const { streamId } = await guest.receive("open");
  await guest.send(streamId, pong, ok);
  await ping;
  assertEquals(guest.pending.filter((frame) => frame.body.case === "credit"), []);
  const reading = readAll(process);
  const credit = await guest.receive("credit");
  assert(credit.body.case === "credit");
  assertEquals([credit.streamId, credit.body.value.bytes], [id, 65_536]);
  await guest.send(id, exited, ok);
  const events = await reading;
  assertEquals([events.length, events.at(-1)!.type], [sent + 1, "exited"]);
});

Deno.test("output sent byte by byte is joined, with the number of its last part", async () => {
  await using guest = await FakeGuest.start();
  await using channel = await guest.open();
  const { process, id } = await startProcess(guest, channel);
  for (let i = 1; i <= 100; i++) await guest.send(id, output(i, new Uint8Array([i]), i <= 60 ? 1 : 2));
  await guest.send(id, exited, ok);
  const ping = channel.ping();
  const { streamId } = await guest.receive("open");
  await guest.send(streamId, pong, ok);
  await ping; // Everything before it has been taken in.
  const events = await readAll(process);
  const outputs = events.filter((event) => event.type === "output");
  assertEquals(outputs.map((event) => [event.stream, event.sequence, event.data.length]), [
    ["stdout", 60n, 60],
    ["stderr", 100n, 40],
  ]);
});

Deno.test("events behind a cancellation are ignored until the guest knows of it", async () => {
  await using guest = await FakeGuest.start();
  await using channel = await guest.open();
  const { process, id } = await startProcess(guest, channel);
  process.cancel();
  await guest.receive("cancel");
  for (let i = 1; i <= 8; i++) await guest.send(id, output(i, kib64)); // More than the credit: nobody counts it.
  const ping = channel.ping();
  const { streamId } = await guest.receive("open");
  await guest.send(streamId, pong, ok);
  await ping;
  // The answer to a later request shows that the guest has handled the cancellation.
  await guest.send(id, output(9, kib64));
  assertEquals((await channel.closed)?.code, "guest_protocol");
});

Deno.test("an endless listing ends with output_too_large, and only that one", async () => {
  await using guest = await FakeGuest.start();
  await using channel = await guest.open();
  const listing = assertRejects(() => channel.listDirectory("/"), TorporError);
  const { streamId } = await guest.receive("open");
  const entry = frameBytes(streamId, { case: "fileEntry", value: { name: "a" } });
  const batch = new Uint8Array(entry.length * 1000);
  for (let i = 0; i < 1000; i++) batch.set(entry, i * entry.length);
  for (let i = 0; i <= MAX_LISTING_ENTRIES; i += 1000) await guest.sendBytes(batch);
  assertEquals((await listing).code, "output_too_large");
  await guest.receive("cancel");
  const ping = channel.ping();
  const open = await guest.receive("open");
  await guest.send(open.streamId, pong, ok);
  await ping;
});

Deno.test("too many requests at once are refused, the host's own still go out", async () => {
  await using guest = await FakeGuest.start();
  const channel = await guest.open();
  const waiting = Array.from({ length: MAX_STREAMS }, () => assertRejects(() => channel.stat("/x"), TorporError));
  assertEquals((await assertRejects(() => channel.stat("/x"), TorporError)).code, "rate_limited");
  const sync = assertRejects(() => channel.sync(), TorporError);
  for (let i = 0; i <= MAX_STREAMS; i++) await guest.receive("open");
  await channel[Symbol.asyncDispose]();
  await Promise.all([...waiting, sync]);
});

Deno.test("a guest that does not read holds the writer back", async () => {
  await using guest = await FakeGuest.start();
  await using channel = await guest.open();
  let pulled = 0;
  const content = new ReadableStream<Uint8Array>({
    pull(controller) {
      pulled += kib64.length;
      controller.enqueue(kib64.slice());
    },
  }, { highWaterMark: 0 });
  const writing = assertRejects(() => channel.writeFile("/x", content), TorporError);
  const { streamId } = await guest.receive("open");
  for (let i = 0; i < INITIAL_CREDIT_BYTES / kib64.length; i++) await guest.receive("fileChunk");
  const ping = channel.ping();
  const open = await guest.receive("open");
  await guest.send(open.streamId, pong, ok);
  await ping;
  // One piece more than the credit has been asked for and waits.
  assertEquals(pulled, INITIAL_CREDIT_BYTES + kib64.length);
  await guest.end(streamId, StatusCode.NO_SPACE, "write file: No space left on device");
  assertEquals((await writing).code, "no_space");
});

Deno.test("content that breaks cancels the write and keeps its own error", async () => {
  await using guest = await FakeGuest.start();
  await using channel = await guest.open();
  const content = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(new Uint8Array(10));
    },
    pull: () => Promise.reject(new RangeError("the caller's disk broke")),
  });
  const writing = assertRejects(() => channel.writeFile("/x", content), RangeError);
  await guest.receive("cancel");
  assertEquals((await writing).message, "the caller's disk broke");
  const chunk = await guest.receive("fileChunk");
  assert(chunk.body.case === "fileChunk" && !chunk.body.value.eof);
  assertEquals(guest.pending.some((frame) => frame.body.case === "fileChunk"), false);
});

const codes: [StatusCode, string, string][] = [
  [StatusCode.INVALID_ARGUMENT, "invalid_argument", "invalid_argument"],
  [StatusCode.NOT_FOUND, "file_not_found", "process_not_found"],
  [StatusCode.PERMISSION_DENIED, "permission_denied", "permission_denied"],
  [StatusCode.ALREADY_EXISTS, "already_exists", "already_exists"],
  [StatusCode.NO_SPACE, "no_space", "no_space"],
  [StatusCode.RESOURCE_EXHAUSTED, "rate_limited", "rate_limited"],
  [StatusCode.FAILED_PRECONDITION, "file_precondition", "conflict"],
  [StatusCode.INTERNAL, "internal", "internal"],
  [99 as StatusCode, "internal", "internal"],
];

Deno.test("each status of the guest has its code, and the cause keeps the errno", async () => {
  await using guest = await FakeGuest.start();
  await using channel = await guest.open();
  for (const [status, fileCode, processCode] of codes) {
    const calls: [string, () => Promise<unknown>][] = [
      [fileCode, () => channel.stat("/x")],
      [processCode, () => channel.signalProcess(1, 9)],
    ];
    for (const [code, call] of calls) {
      const failing = assertRejects(call, TorporError);
      const { streamId } = await guest.receive("open");
      const value = { status: { code: status, message: "a\nb\u0007", errnoValue: 5 } };
      await guest.send(streamId, { case: "end", value });
      const error = await failing;
      assertEquals([error.code, error.message, (error.cause as { errno: number }).errno], [code, "a b ", 5]);
    }
  }
});

Deno.test("an aborted request is cancelled at the guest", async () => {
  await using guest = await FakeGuest.start();
  await using channel = await guest.open();
  const controller = new AbortController();
  const stat = assertRejects(() => channel.stat("/x", { signal: controller.signal }), TorporError);
  const { streamId } = await guest.receive("open");
  controller.abort();
  assertEquals([(await stat).code, (await guest.receive("cancel")).streamId], ["canceled", streamId]);
  assertEquals(
    (await assertRejects(() => channel.stat("/x", { signal: controller.signal }), TorporError)).code,
    "canceled",
  );
});

Deno.test("a request larger than a frame is refused and leaves nothing open", async () => {
  await using guest = await FakeGuest.start();
  await using channel = await guest.open();
  const error = await assertRejects(() => channel.stat("x".repeat(70_000)), TorporError);
  assertEquals(error.code, "invalid_argument");
  const ping = channel.ping();
  const { streamId } = await guest.receive("open");
  await guest.send(streamId, pong, ok);
  await ping;
});

Deno.test("gaps that nobody reads are one event: they cost no credit", async () => {
  await using guest = await FakeGuest.start();
  await using channel = await guest.open();
  const { process, id } = await startProcess(guest, channel);
  const gap = (first: number, last: number): BodyInit => ({
    case: "processGap",
    value: { firstLostSequence: BigInt(first), lastLostSequence: BigInt(last), lostBytes: 2n ** 64n - 1n },
  });
  await guest.send(id, output(1, kib64), gap(2, 5), gap(6, 6), gap(7, 9), output(10, kib64), exited, ok);
  const events = await readAll(process);
  assertEquals(events.map(({ type }) => type), ["output", "gap", "output", "exited"]);
  assertEquals(events[1], { type: "gap", firstLostSequence: 2n, lastLostSequence: 9n, lostBytes: 2n ** 64n - 3n });
});
