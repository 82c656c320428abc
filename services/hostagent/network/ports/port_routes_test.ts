import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { Tunnel } from "@torpor/rpc";
import { type GuestService, startGuestService } from "../../guest/testing/guest_service.ts";

const never = new AbortController().signal;

/** A port that answers with what `work` does. */
function listen(work: (connection: Deno.TcpConn) => Promise<void>) {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const underWay = new Set<Promise<unknown>>();
  const accepting = (async () => {
    for await (const connection of listener) underWay.add(work(connection).catch((thrown) => thrown));
  })();
  return {
    port: listener.addr.port,
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
      await Promise.all(underWay);
    },
  };
}

async function open(service: GuestService, port: number, options: { finite?: boolean } = {}): Promise<Tunnel> {
  const path = `/sandboxes/${service.sandboxId}/ports/${port}${options.finite ? "?finite=1" : ""}`;
  const fetch: typeof globalThis.fetch = (_input, init) => service.fetch(path, init);
  const tunnel = await Tunnel.open(fetch, "", { headers: {}, signal: never });
  assert(tunnel instanceof Tunnel);
  return tunnel;
}

async function readAll(tunnel: Tunnel): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  for (let data = await tunnel.read(); data; data = await tunnel.read()) parts.push(data);
  return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
}

const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);
const bytes = (text: string) => new TextEncoder().encode(text);
const echo = async (connection: Deno.TcpConn) => await connection.readable.pipeTo(connection.writable);

Deno.test("bytes go both ways at once, and each direction ends by itself", async () => {
  await using service = await startGuestService();
  await using server = listen(echo);
  const tunnel = await open(service, server.port);
  for (const word of ["one", "two"]) {
    await tunnel.write(bytes(word));
    assertEquals(text(await tunnel.read()), word);
  }
  await tunnel.end();
  assertEquals(await tunnel.read(), undefined);
  await tunnel.over();
});

Deno.test("a program that ends its direction first still gets what is sent to it", async () => {
  await using service = await startGuestService();
  const got = Promise.withResolvers<string>();
  await using server = listen(async (connection) => {
    await connection.closeWrite();
    const buffer = new Uint8Array(100);
    const count = await connection.read(buffer);
    got.resolve(text(buffer.subarray(0, count ?? 0)));
    connection.close();
  });
  const tunnel = await open(service, server.port);
  assertEquals(await tunnel.read(), undefined);
  await tunnel.write(bytes("late"));
  assertEquals(await got.promise, "late");
  await tunnel.end();
  await tunnel.over();
});

Deno.test("many bytes come back as they were sent", async () => {
  await using service = await startGuestService();
  await using server = listen(echo);
  const parts = Array.from({ length: 80 }, () => crypto.getRandomValues(new Uint8Array(65_000)));
  const tunnel = await open(service, server.port);
  const sending = (async () => {
    for (const part of parts) await tunnel.write(part);
    await tunnel.end();
  })();
  const back = await readAll(tunnel);
  await sending;
  await tunnel.over();
  const sent = new Uint8Array(await new Blob(parts).arrayBuffer());
  assert(back.length === sent.length && back.every((byte, index) => byte === sent[index]));
});

Deno.test("a closed port, an odd one and an unknown sandbox are refused before anything is read", async () => {
  await using service = await startGuestService();
  const code = async (path: string) => {
    const response = await service.fetch(path, { method: "POST", body: "unread" });
    return [response.status, (await response.json()).code];
  };
  const own = `/sandboxes/${service.sandboxId}/ports`;
  assertEquals(await code(`${own}/1`), [502, "port_closed"]);
  assertEquals(await code(`${own}/70000`), [422, "invalid_argument"]);
  assertEquals(await code(`/sandboxes/${"a".repeat(20)}/ports/1`), [404, "sandbox_not_found"]);
  for (const odd of ["0", "x", "99999999"]) assertEquals((await code(`${own}/${odd}`))[0], 404);
});

Deno.test("a client that leaves resets the connection", async () => {
  await using service = await startGuestService();
  const reset = Promise.withResolvers<unknown>();
  const arrived = Promise.withResolvers<void>();
  await using server = listen(async (connection) => {
    const buffer = new Uint8Array(10);
    await connection.read(buffer);
    arrived.resolve();
    reset.resolve(await connection.read(buffer).catch((thrown) => thrown));
    connection.close();
  });
  const leaving = await open(service, server.port);
  await leaving.write(new Uint8Array([1]));
  await arrived.promise;
  leaving.close();
  assert(await reset.promise instanceof Deno.errors.ConnectionReset);
});

Deno.test("a request keeps the sandbox in use, a connection without end only while bytes flow", async () => {
  await using service = await startGuestService();
  await using server = listen(echo);
  const tunnels = [await open(service, server.port, { finite: true }), await open(service, server.port)];
  assertEquals([service.uses(), service.connections.size], [1, 2]);
  for (const tunnel of tunnels) {
    await tunnel.end();
    await readAll(tunnel);
    await tunnel.over();
  }
  assertEquals([service.uses(), service.connections.size], [0, 0]);
});

Deno.test("a drain waits for requests, and cuts what has no end", async () => {
  await using service = await startGuestService();
  await using server = listen(echo);
  const request = await open(service, server.port, { finite: true });
  const endless = await open(service, server.port);
  const draining = service.connections.drain(new TorporError("sandbox_paused", "paused"), 60_000, never);
  assertEquals((await assertRejects(() => endless.read(), TorporError)).code, "unavailable");
  endless.close();
  await request.write(bytes("late"));
  await request.end();
  assertEquals(text(await readAll(request)), "late");
  assertEquals(await draining, 1);
  await request.over();
});

Deno.test("a drain cuts requests that take too long", async () => {
  await using service = await startGuestService();
  await using server = listen(echo);
  const request = await open(service, server.port, { finite: true });
  assertEquals(await service.connections.drain(new TorporError("sandbox_paused", "paused"), 1, never), 1);
  await assertRejects(() => request.read(), TorporError);
  request.close();
});
