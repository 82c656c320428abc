// Bytes through a real guest: 50 MB by each way, and streams over a pause.
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { TorporError } from "@torpor/errors";
import type { WriteFileStreamRequestSchema } from "@torpor/proto/hostagent";
import { startTestHostAgent, type TestHostAgent } from "../../../libs/testing/hostagent.ts";

const BIG_BYTES = 50_000_000;
const PATH = "/home/user/big";
const TIMEOUT_SEC = 240;

type WriteMessage = MessageInitShape<typeof WriteFileStreamRequestSchema>;

function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes;
}

async function sha256(bytes: Uint8Array): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.slice())).toHex();
}

async function* writeMessages(sandboxId: string, bytes: Uint8Array): AsyncGenerator<WriteMessage> {
  yield { content: { case: "meta", value: { sandboxId, path: PATH } } };
  for (let at = 0; at < bytes.length; at += 1_000_000) {
    yield { content: { case: "chunk", value: bytes.subarray(at, at + 1_000_000) } };
  }
}

async function readFile({ client }: TestHostAgent, sandboxId: string): Promise<Uint8Array> {
  const whole = new Uint8Array(BIG_BYTES);
  let at = 0;
  for await (const { chunk } of client.readFileStream({ sandboxId, path: PATH })) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  assertEquals(at, BIG_BYTES);
  return whole;
}

async function measured<T>(what: string, work: () => Promise<T>): Promise<T> {
  const begin = performance.now();
  const result = await work();
  console.log(`${what}: ${(BIG_BYTES / 1000 / (performance.now() - begin)).toFixed(1)} MB/s`);
  return result;
}

Deno.test("50 MB come unchanged through files and through a command's input and output", async () => {
  await using host = await startTestHostAgent();
  const sandboxId = await host.create({ memoryMb: 256 });
  const bytes = randomBytes(BIG_BYTES);
  const expected = await sha256(bytes);
  await measured(
    "write file",
    () => host.client.writeFileStream(writeMessages(sandboxId, bytes), { timeoutMs: TIMEOUT_SEC * 1000 }),
  );
  assertEquals(await host.run(sandboxId, `sha256sum < ${PATH}`), `${expected}  -`);
  assertEquals(await sha256(await measured("read file", () => readFile(host, sandboxId))), expected);
  const request = { sandboxId, cmd: "cat", args: ["-"], stdin: bytes, timeoutSec: TIMEOUT_SEC };
  const { stdout } = await measured("exec, in and out", () => host.client.exec(request));
  assertEquals(await sha256(stdout), expected);
});

Deno.test("a stream that is open at a pause is told of it, its process goes on after the resume", async () => {
  await using host = await startTestHostAgent();
  const { client } = host;
  const sandboxId = await host.create();
  const cmd = "echo ready; read line; echo $line > ~/answer";
  const events = client.execStream({ sandboxId, cmd, stdin: true })[Symbol.asyncIterator]();
  const start = (await events.next()).value!.event;
  assert(start.case === "start");
  assertEquals((await events.next()).value!.event.case, "data");
  await client.pauseSandbox({ sandboxId });
  assertEquals((await events.next()).value?.event.case, "paused");
  assertEquals((await events.next()).done, true);
  assertEquals((await assertRejects(() => client.exec({ sandboxId, cmd: "true" }), TorporError)).code, "conflict");
  await client.resumeSandbox({ sandboxId });
  const data = new TextEncoder().encode("awake\n");
  await client.sendProcessInput({ sandboxId, pid: start.value.pid, data, eof: true });
  assertEquals(
    await host.run(sandboxId, "until [ -s ~user/answer ]; do sleep 0.1; done; cat ~user/answer"),
    "awake",
  );
});
