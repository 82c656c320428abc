import { assert, assertEquals } from "@std/assert";
import { StatusCode } from "@torpor/proto/guest";
import { concat, type GuestClient, type GuestStream, succeeded } from "./guest_client.ts";
import { startNativeAgent } from "./native_agent.ts";

const WINDOW = 262_144;

async function connect(client: GuestClient, port: number, windowBytes = WINDOW): Promise<GuestStream> {
  const stream = await client.open({ case: "connectPort", value: { port, windowBytes } });
  stream.sendCredit = 0;
  const event = await stream.next();
  assert(event.case === "portConnected");
  stream.sendCredit = event.value.windowBytes;
  return stream;
}

/** All bytes until the guest's end of the direction. */
async function receive(stream: GuestStream): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (;;) {
    const event = await stream.next();
    assert(event.case === "portChunk");
    parts.push(event.value.data);
    if (event.value.eof) return concat(parts);
  }
}

function listen(hostname = "127.0.0.1"): Deno.TcpListener {
  return Deno.listen({ hostname, port: 0 });
}

Deno.test("bytes go both ways at once, and each direction ends by itself", async () => {
  await using agent = await startNativeAgent();
  using listener = listen();
  const echoing = (async () => {
    const connection = await listener.accept();
    await connection.readable.pipeTo(connection.writable);
  })();
  const stream = await connect(agent.client, listener.addr.port);
  const bytes = concat(Array.from({ length: 50 }, () => crypto.getRandomValues(new Uint8Array(60_001))));
  const sending = stream.sendBytes("portChunk", bytes);
  const back = await receive(stream);
  await Promise.all([sending, echoing]);
  assert(back.length === bytes.length && back.every((byte, index) => byte === bytes[index]));
  assertEquals(await Array.fromAsync(stream), []);
  assert(succeeded(stream.end!));
  assert(stream.end!.spans.some(({ name }) => name === "guest.connect_port"));
});

Deno.test("an answer is read to its end after the other direction has ended", async () => {
  await using agent = await startNativeAgent();
  using listener = listen();
  const stream = await connect(agent.client, listener.addr.port);
  const connection = await listener.accept();
  await stream.sendBytes("portChunk", new TextEncoder().encode("question"));
  const question = new Uint8Array(100);
  assertEquals([await connection.read(question), await connection.read(question)], [8, null]);
  await connection.write(new TextEncoder().encode("answer"));
  connection.close();
  assertEquals(new TextDecoder().decode(await receive(stream)), "answer");
});

Deno.test("a server that listens at ::1 only is found", async () => {
  await using agent = await startNativeAgent();
  using listener = listen("::1");
  const stream = await connect(agent.client, listener.addr.port);
  (await listener.accept()).close();
  await receive(stream);
});

Deno.test("a port where nobody listens is not found, and no port is invalid", async () => {
  await using agent = await startNativeAgent();
  const closed = listen();
  const { port } = closed.addr;
  closed.close();
  const refused = async (value: { port: number; windowBytes: number }) =>
    (await agent.client.call({ case: "connectPort", value })).end.status!;
  const status = await refused({ port, windowBytes: WINDOW });
  assertEquals([status.code, status.errnoValue], [StatusCode.NOT_FOUND, 111]);
  for (const value of [{ port: 0, windowBytes: 1 }, { port: 65_536, windowBytes: 1 }, { port, windowBytes: 0 }]) {
    assertEquals((await refused(value)).code, StatusCode.INVALID_ARGUMENT);
  }
});

Deno.test("a cancelled stream resets its connection", async () => {
  await using agent = await startNativeAgent();
  using listener = listen();
  const stream = await connect(agent.client, listener.addr.port);
  using connection = await listener.accept();
  await stream.cancel();
  const error = await connection.read(new Uint8Array(1)).catch((thrown) => thrown);
  assert(error instanceof Deno.errors.ConnectionReset);
});

Deno.test("a connection that breaks off does not end well", async () => {
  await using agent = await startNativeAgent();
  using listener = listen();
  const stream = await connect(agent.client, listener.addr.port);
  const connection = await listener.accept();
  await stream.send({ case: "portChunk", value: { data: new Uint8Array(1000) } });
  await connection.read(new Uint8Array(1));
  // What was sent and not read makes the kernel reset it.
  connection.close();
  await Array.fromAsync(stream);
  assertEquals(stream.end!.status!.code, StatusCode.FAILED_PRECONDITION);
});

Deno.test("a reader that stalls gets no more than its window, and stalls nobody else", async () => {
  await using agent = await startNativeAgent();
  using listener = listen();
  const stalled = await connect(agent.client, listener.addr.port, 10_000);
  stalled.autoCredit = false;
  const flooding = (async () => {
    const connection = await listener.accept();
    const writer = connection.writable.getWriter();
    for (;;) await writer.write(new Uint8Array(65_536));
  })().catch(() => {});
  let got = 0;
  while (got < 10_000) {
    const event = await stalled.next();
    if (event.case === "portChunk") got += event.value.data.length;
  }
  assertEquals(got, 10_000);
  const { stdout } = await agent.client.run(["echo", "here"]);
  assertEquals(new TextDecoder().decode(stdout), "here\n");
  await stalled.cancel();
  await flooding;
});

Deno.test("a program that does not read is sent no more than the window, and the rest when it does", async () => {
  await using agent = await startNativeAgent();
  using listener = listen();
  const stream = await connect(agent.client, listener.addr.port);
  const connection = await listener.accept();
  const bytes = new Uint8Array(20_000_000).fill(7);
  const sending = stream.sendBytes("portChunk", bytes);
  // Far more than kernel and window hold: the agent stops to give credit.
  const { end } = await agent.client.call({ case: "ping", value: {} });
  assert(succeeded(end));
  let got = 0;
  for await (const part of connection.readable) got += part.length;
  await sending;
  assertEquals(got, bytes.length);
});

Deno.test("connections to ports leave room for everything else", async () => {
  await using agent = await startNativeAgent();
  using listener = listen();
  const accepted: Deno.Conn[] = [];
  for (let count = 0; count < 256; count++) {
    await connect(agent.client, listener.addr.port);
    accepted.push(await listener.accept());
  }
  const value = { port: listener.addr.port, windowBytes: WINDOW };
  const { end } = await agent.client.call({ case: "connectPort", value });
  assertEquals(end.status!.code, StatusCode.RESOURCE_EXHAUSTED);
  assertEquals((await agent.client.run(["true"])).exitCode, 0);
  for (const connection of accepted) connection.close();
});
