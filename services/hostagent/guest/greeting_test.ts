import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { openAndWake, openGuestChannel } from "./mod.ts";
import { FakeGuest, frameBytes, helloReply } from "./testing/fake_guest.ts";

function epochOf(frame: Awaited<ReturnType<FakeGuest["receive"]>>): bigint {
  assert(frame.body.case === "hello");
  return frame.body.value.epoch;
}

Deno.test("what came before the HelloReply of this epoch is dropped", async () => {
  await using guest = await FakeGuest.start({ greets: false });
  const opening = guest.open();
  const hello = epochOf(await guest.receive("hello"));
  const old = frameBytes(5, { case: "pong", value: {} });
  await guest.sendBytes(old.subarray(3)); // The rest of a frame whose beginning went to an earlier host end.
  await guest.sendBytes(old);
  await guest.sendBytes(new Uint8Array(100_000).fill(3));
  await guest.sendBytes(new Uint8Array(1));
  await guest.send(0, helloReply(hello + 1n), helloReply(hello));
  await using channel = await opening;
  assertEquals([channel.agentVersion, channel.bootId], ["fake", 7n]);
});

Deno.test("Hello is repeated until answered, and only the newest answer counts", async () => {
  await using guest = await FakeGuest.start({ greets: false });
  const opening = guest.open();
  const first = epochOf(await guest.receive("hello"));
  const second = epochOf(await guest.receive("hello"));
  assert(first !== second);
  // An agent that has just opened its port works through both.
  await guest.send(0, helloReply(first));
  await guest.send(0, helloReply(second));
  await using channel = await opening;
  const ping = channel.ping();
  const { streamId } = await guest.receive("open");
  await guest.send(streamId, { case: "pong", value: { uptimeMs: 5n } });
  await guest.end(streamId);
  assertEquals((await ping).uptimeMs, 5n);
});

Deno.test("a silent guest is given up when the caller says so", async () => {
  await using guest = await FakeGuest.start({ greets: false });
  const controller = new AbortController();
  const opening = openGuestChannel({ socketPath: guest.socketPath, signal: controller.signal });
  await guest.receive("hello");
  controller.abort();
  assertEquals((await assertRejects(() => opening, TorporError)).code, "guest_unreachable");
});

Deno.test("giving up keeps the caller's own error, also before there is a socket", async () => {
  const controller = new AbortController();
  const opening = openGuestChannel({ socketPath: "/nonexistent/agent.sock", signal: controller.signal });
  controller.abort(new TorporError("vm_gone", "the VM ended"));
  assertEquals((await assertRejects(() => opening, TorporError)).code, "vm_gone");
});

Deno.test("a guest that hangs up during the greeting is unreachable", async () => {
  await using guest = await FakeGuest.start({ greets: false });
  const opening = guest.open();
  await guest.receive("hello");
  guest.hangUp();
  assertEquals((await assertRejects(() => opening, TorporError)).code, "guest_unreachable");
});

Deno.test("an agent of another protocol version is refused", async () => {
  await using guest = await FakeGuest.start({ greets: false });
  const opening = guest.open();
  await guest.send(0, helloReply(epochOf(await guest.receive("hello")), 1));
  assertEquals((await assertRejects(() => opening, TorporError)).code, "guest_protocol");
});

Deno.test("Wake goes out with Hello, and is answered behind it", async () => {
  await using guest = await FakeGuest.start({ greets: false });
  let now = 100n;
  const call = { unixNs: () => now++, entropy: new Uint8Array(8), thaw: true };
  const opening = openAndWake({ socketPath: guest.socketPath, signal: new AbortController().signal }, call);
  const epoch = epochOf(await guest.receive("hello"));
  const { streamId, body } = await guest.receive("open");
  assert(body.case === "open" && body.value.request.case === "wake");
  assertEquals([body.value.request.value.unixNs, body.value.request.value.thaw], [100n, true]);
  // All of it arrives in one piece.
  const answers = [
    frameBytes(0, helloReply(epoch)),
    frameBytes(streamId, { case: "wakeReport", value: { behindNs: 3_000_000n, entropyBytes: 8, thawed: true } }),
    frameBytes(streamId, { case: "end", value: { status: { code: 1 } } }),
  ];
  await guest.sendBytes(new Uint8Array(answers.flatMap((bytes) => [...bytes])));
  const { channel, woken } = await opening;
  await using _channel = channel;
  assertEquals(woken, { behindMs: 3, thawed: true });
  // Its stream is not used again.
  const ping = channel.ping();
  const next = await guest.receive("open");
  assert(next.streamId > streamId);
  await guest.send(next.streamId, { case: "pong", value: { uptimeMs: 5n } });
  await guest.end(next.streamId);
  await ping;
});

Deno.test("Wake is repeated with each Hello, by the time of then, and only the newest answer counts", async () => {
  await using guest = await FakeGuest.start({ greets: false });
  let now = 100n;
  const call = { unixNs: () => now++, thaw: true };
  const opening = openAndWake({ socketPath: guest.socketPath, signal: new AbortController().signal }, call);
  const epochs = [epochOf(await guest.receive("hello")), epochOf(await guest.receive("hello"))] as const;
  const times = [];
  for (let count = 0; count < 2; count++) {
    const { body } = await guest.receive("open");
    assert(body.case === "open" && body.value.request.case === "wake");
    times.push(body.value.request.value.unixNs);
  }
  assertEquals(times, [100n, 101n]);
  for (const [index, epoch] of epochs.entries()) {
    await guest.send(0, helloReply(epoch));
    await guest.send(1, { case: "wakeReport", value: { behindNs: BigInt(index + 1) * 1_000_000n } });
    await guest.end(1);
  }
  const { channel, woken } = await opening;
  await using _channel = channel;
  assertEquals(woken.behindMs, 2);
});

Deno.test("a guest that cannot be woken gives no channel", async () => {
  await using guest = await FakeGuest.start({ greets: false });
  const call = { thaw: true };
  const opening = openAndWake({ socketPath: guest.socketPath, signal: new AbortController().signal }, call);
  await guest.send(0, helloReply(epochOf(await guest.receive("hello"))));
  await guest.end(1, 9, "set identity");
  assertEquals((await assertRejects(() => opening, TorporError)).code, "internal");
});

Deno.test("a guest that sends much more than two answers to a Wake is hostile", async () => {
  await using guest = await FakeGuest.start({ greets: false });
  const opening = openAndWake({ socketPath: guest.socketPath, signal: new AbortController().signal }, { thaw: true });
  const epoch = epochOf(await guest.receive("hello"));
  const flood = [frameBytes(0, helloReply(epoch))];
  for (let count = 0; count < 20; count++) flood.push(frameBytes(1, { case: "wakeReport", value: {} }));
  await guest.sendBytes(new Uint8Array(flood.flatMap((bytes) => [...bytes])));
  const { cause } = await assertRejects(() => opening, TorporError);
  assert(cause instanceof TorporError);
  assertEquals(cause.code, "guest_protocol");
});
