import { assert, assertEquals } from "@std/assert";
import { create, toBinary } from "@bufbuild/protobuf";
import { FrameSchema, StatusCode } from "@torpor/proto/guest";
import { encodeFrame } from "./framing.ts";
import { collectRun, type GuestClient, succeeded } from "./guest_client.ts";
import { startNativeAgent } from "./native_agent.ts";

const pingWorks = async (client: GuestClient) =>
  (await client.call({ case: "ping", value: {} })).events[0]?.case === "pong";

Deno.test("garbage, half frames, damaged frames and overlong frames are skipped", async () => {
  await using agent = await startNativeAgent();
  const { client } = agent;
  const ping = encodeFrame(toBinary(
    FrameSchema,
    create(FrameSchema, {
      streamId: 99,
      body: { case: "open", value: { request: { case: "ping", value: {} } } },
    }),
  ));
  const damaged = ping.slice();
  damaged[3]! ^= 0x40;
  const inputs = [
    crypto.getRandomValues(new Uint8Array(5000)),
    new Uint8Array([0]),
    ping.subarray(0, 4),
    new Uint8Array([0, 0, 0]),
    damaged,
    new Uint8Array(700_000).fill(7),
    new Uint8Array([0]),
  ];
  for (const input of inputs) {
    await client.writeRaw(input);
    // The zero byte ends what this input has begun.
    await client.writeRaw(new Uint8Array([0]));
    assert(await pingWorks(client));
  }
});

Deno.test("a new epoch in the middle of a frame works at once and forgets the old streams", async () => {
  await using agent = await startNativeAgent();
  const { client } = agent;
  const stream = await client.open({ case: "readFile", value: { path: "/dev/zero", user: "root" } });
  stream.autoCredit = false;
  await stream.next();
  await client.writeRaw(new Uint8Array([200, 1, 2, 3]));
  const reply = await client.hello();
  assertEquals([reply.protocolVersion, reply.agentVersion !== ""], [2, true]);
  // Stream 1 of the new epoch is a new stream.
  assert(await pingWorks(client));
});

Deno.test("more streams than the limit are refused and the others go on", async () => {
  await using agent = await startNativeAgent();
  const { client } = agent;
  const process = await client.open({ case: "startProcess", value: { argv: ["cat"], user: "root", stdin: true } });
  const started = await process.next();
  assert(started.case === "processStarted");
  const pid = started.value.pid;
  const attached = [];
  for (let i = 0; i < 511; i++) {
    attached.push(await client.open({ case: "attachProcess", value: { pid, afterSequence: 0n } }));
  }
  const refused = await client.call({ case: "ping", value: {} });
  assertEquals(refused.end.status?.code, StatusCode.RESOURCE_EXHAUSTED);
  await process.sendBytes("stdin", new TextEncoder().encode("hello"));
  for (const stream of [process, ...attached]) {
    const { stdout, exitCode } = await collectRun(stream);
    assertEquals([new TextDecoder().decode(stdout), exitCode], ["hello", 0]);
  }
  assert(await pingWorks(client));
});

Deno.test("bytes beyond the credit end the stream", async () => {
  await using agent = await startNativeAgent();
  const { client } = agent;
  const stream = await client.open({
    case: "startProcess",
    value: { argv: ["sleep", "1000"], user: "root", stdin: true },
  });
  const started = await stream.next();
  assert(started.case === "processStarted");
  for (let i = 0; i < 12; i++) {
    await stream.send({ case: "stdin", value: { data: new Uint8Array(65_536) } });
  }
  await collectRun(stream);
  assertEquals(stream.end!.status?.code, StatusCode.RESOURCE_EXHAUSTED);
  const { end } = await client.call({ case: "signalProcess", value: { pid: started.value.pid, signal: 9 } });
  assert(succeeded(end));
});

Deno.test("machine requests answer with spans", async () => {
  await using agent = await startNativeAgent();
  const { client } = agent;
  const metrics = await client.call({ case: "getMetrics", value: {} });
  const [event] = metrics.events;
  assert(event?.case === "metrics");
  const { cpuCount, memoryTotalBytes, memoryUsedBytes, diskTotalBytes, diskUsedBytes, cpuUsageUs } = event.value;
  assert(cpuCount > 0 && cpuUsageUs > 0n && memoryUsedBytes > 0n && memoryUsedBytes < memoryTotalBytes);
  assert(diskUsedBytes > 0n && diskUsedBytes < diskTotalBytes);
  const unixNs = BigInt(Date.now() + 3_600_000) * 1_000_000n;
  const clock = await client.call({ case: "wake", value: { unixNs, entropy: new Uint8Array(32) } });
  const [report] = clock.events;
  assert(report?.case === "wakeReport");
  assert(Math.abs(Number(report.value.behindNs) / 1e9 - 3600) < 60);
  assertEquals([report.value.entropyBytes, clock.end.spans[0]?.name], [32, "guest.set_clock"]);
  const bad = await client.call({ case: "wake", value: { unixNs: -1n } });
  assertEquals(bad.end.status?.code, StatusCode.INVALID_ARGUMENT);
  const nothing = await client.open(undefined as never);
  await Array.fromAsync(nothing);
  assertEquals(nothing.end?.status?.code, StatusCode.INVALID_ARGUMENT);
});
