import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { openGuestChannel } from "./mod.ts";
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
