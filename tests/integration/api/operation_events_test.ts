import { assertEquals } from "@std/assert";
import { OperationService } from "@torpor/proto/torpor";
import { TestApi } from "./harness.ts";

Deno.test("an operation is followed from begin to end, by events and by RPC", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  const gate = Promise.withResolvers<void>();
  api.host.faults.gate = gate.promise;
  const begun = await api.call("POST", `/v1/sandboxes/${id}/pause?wait=false`);
  assertEquals(begun.status, 202);
  const operationId: string = begun.json.operation_id;
  using client = api.client(OperationService);
  const messages = Array.fromAsync(client.watchOperation({ operationId }));
  const events = await api.open("GET", `/v1/operations/${operationId}/events`);
  const reader = events.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await reader.read()).value!;
  gate.resolve();
  for (let next = await reader.read(); !next.done; next = await reader.read()) text += next.value;
  const data = [...text.matchAll(/^data: ?(.*)$/gm)].map(([, json]) => JSON.parse(json!));
  const states = data.map(({ operation_id, state }) => `${operation_id} ${state}`);
  assertEquals([states[0], states.at(-1)], [`${operationId} running`, `${operationId} succeeded`]);
  assertEquals((await messages).map(({ operation }) => operation!.operationId).at(-1), operationId);
  // One that has ended is told once.
  const again = await api.call("GET", `/v1/operations/${operationId}/events`);
  assertEquals(again.text.match(/^event: ?operation/gm)?.length, 1);
  assertEquals((await api.call("GET", `/v1/operations/${id}/events`)).status, 404);
});

Deno.test("who follows an operation may leave, and a service that stops ends the stream", async () => {
  let stream: Promise<unknown>;
  {
    await using api = await TestApi.start();
    const id = await api.createSandbox();
    const gate = Promise.withResolvers<void>();
    api.host.faults.gate = gate.promise;
    const { operation_id } = (await api.call("POST", `/v1/sandboxes/${id}/pause?wait=false`)).json;
    const left = new AbortController();
    const response = await api.open("GET", `/v1/operations/${operation_id}/events`, {}, left.signal);
    const reader = response.body!.getReader();
    await reader.read();
    left.abort(new Error("left"));
    await reader.closed.catch(() => {});
    stream = api.call("GET", `/v1/operations/${operation_id}/events`).catch(() => {});
    gate.resolve();
  }
  await stream;
});
