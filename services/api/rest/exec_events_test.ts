import { assert, assertEquals, assertRejects } from "@std/assert";
import { create } from "@bufbuild/protobuf";
import { type ExecStreamResponse, ExecStreamResponseSchema } from "@torpor/proto/hostagent";
import { execEvents } from "./exec_events.ts";

const started = create(ExecStreamResponseSchema, { event: { case: "start", value: { pid: 7 } } });

Deno.test("events are made only as they are read", async () => {
  let made = 0;
  const messages = (async function* (): AsyncGenerator<ExecStreamResponse> {
    for (;;) {
      made++;
      yield started;
    }
  })();
  const reader = execEvents(messages, new AbortController()).getReader();
  assertEquals(await reader.read(), { done: false, value: { event: "started", data: '{"pid":7,"started_at":null}' } });
  assertEquals(made, 1);
  await reader.cancel();
});

Deno.test("a reader that leaves aborts, also while the next message is awaited", async () => {
  const left = new AbortController();
  const aborted = new Promise<never>((_, reject) =>
    left.signal.addEventListener("abort", () => reject(left.signal.reason))
  );
  const messages = (async function* (): AsyncGenerator<ExecStreamResponse> {
    yield started;
    await aborted;
  })();
  const reader = execEvents(messages, left).getReader();
  await reader.read();
  const waiting = reader.read();
  await reader.cancel();
  assert(left.signal.aborted);
  assertEquals((await waiting).done, true);
  await aborted.catch(() => {});
});

Deno.test("messages that fail make a stream that fails, not one that ends", async () => {
  const messages = (async function* (): AsyncGenerator<ExecStreamResponse> {
    yield started;
    throw new Error("the VM ended");
  })();
  const reader = execEvents(messages, new AbortController()).getReader();
  await reader.read();
  await assertRejects(() => reader.read(), Error, "the VM ended");
});
