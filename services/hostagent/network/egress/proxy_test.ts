import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { testCertificate } from "@torpor/testing/certificate";
import fc from "fast-check";
import { clientHello, inRecords } from "./testing/client_hello.ts";
import { exchange, LoopbackProxy, PUBLIC_ADDRESS, readAll } from "./testing/loopback.ts";

const ZONE = {
  "allowed.example.com": { A: [PUBLIC_ADDRESS] },
  "other.example.com": { A: [PUBLIC_ADDRESS] },
  "private.example.com": { A: ["10.0.0.5"] },
  "mixed.example.com": { A: [PUBLIC_ADDRESS, "169.254.169.254"] },
  "six.example.com": { AAAA: ["fd00:0:0:0:0:0:0:1"] },
  "mapped.example.com": { AAAA: ["0:0:0:0:0:ffff:7f00:1"] },
};

/** Alert records: fatal, with this description. */
const ACCESS_DENIED = "\x15\x03\x03\x00\x02\x02\x31";
const DECODE_ERROR = "\x15\x03\x03\x00\x02\x02\x32";
const INTERNAL_ERROR = "\x15\x03\x03\x00\x02\x02\x50";
const UNRECOGNIZED_NAME = "\x15\x03\x03\x00\x02\x02\x70";

const hello = (name: string) => String.fromCharCode(...inRecords(clientHello({ names: [name] })));
const get = (host: string) => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;

/** A web server that tells what it was asked. */
function webServer(): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const body = await request.text();
    return new Response(`${request.method} ${request.headers.get("host")} ${body.length}`);
  });
}

/** A server that sends back what it gets. */
function echoServer(): { port: number } & AsyncDisposable {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const echoing = (async () => {
    for await (const connection of listener) {
      connection.readable.pipeTo(connection.writable).catch(() => {});
    }
  })();
  return {
    port: (listener.addr as Deno.NetAddr).port,
    async [Symbol.asyncDispose]() {
      listener.close();
      await echoing;
    },
  };
}

Deno.test("a request for an allowed name is answered by the server that the proxy finds", async () => {
  await using server = webServer();
  await using egress = await LoopbackProxy.start(ZONE);
  egress.servers.set(80, server.addr.port);
  await egress.proxy.setRules(egress.slot, ["*.example.com"]);
  const got = await exchange(await egress.connect("http"), get("allowed.example.com"));
  assertMatch(got, /^HTTP\/1\.1 200 OK\r\n/);
  assertStringIncludes(got, "GET allowed.example.com 0");
  const body = "x".repeat(300_000);
  const posted = await exchange(
    await egress.connect("http"),
    `POST / HTTP/1.1\r\nHost: allowed.example.com\r\nTransfer-Encoding: chunked\r\n\r\n493e0\r\n${body}\r\n0\r\n\r\n\r\n`,
  );
  assertStringIncludes(posted, "POST allowed.example.com 300000");
  assertEquals(await egress.ended(2), ["passed", "passed"]);
  assertEquals(egress.dialed, [`${PUBLIC_ADDRESS}:80`, `${PUBLIC_ADDRESS}:80`]);
});

Deno.test("requests that the rules do not allow are answered with the reason", async () => {
  await using egress = await LoopbackProxy.start(ZONE);
  await egress.proxy.setRules(egress.slot, [
    "allowed.example.com",
    "private.example.com",
    "mixed.example.com",
    "gone.example.com",
  ]);
  const refused = async (text: string, status: number, reason: string) => {
    const answer = await exchange(await egress.connect("http"), text);
    assertStringIncludes(answer, `HTTP/1.1 ${status} `);
    assertStringIncludes(answer, `torpor-egress-refused: ${reason}\r\n`);
    assertEquals(egress.outcomes.at(-1)?.outcome, reason);
  };
  await refused(get("other.example.com"), 403, "not_allowed");
  await refused(get("private.example.com"), 403, "reserved_address");
  await refused(get("mixed.example.com"), 403, "reserved_address");
  await refused(get("gone.example.com"), 502, "not_resolved");
  await refused(get("169.254.169.254"), 403, "bad_name");
  await refused("GET / HTTP/1.1\r\n\r\n", 403, "no_name");
  await refused("GET / HTTP/1.1\r\nHost: allowed.example.com\r\nHost: other.example.com\r\n\r\n", 400, "malformed");
  await refused("GET http://other.example.com/ HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n", 400, "malformed");
  await refused(`GET /${"a".repeat(20_000)} HTTP/1.1\r\n`, 431, "head_too_large");
  assertEquals(egress.dialed, []);
});

Deno.test("a name that resolves to IPv6 is looked at, too", async () => {
  await using egress = await LoopbackProxy.start(ZONE);
  await egress.proxy.setRules(egress.slot, ["six.example.com", "mapped.example.com"]);
  await exchange(await egress.connect("http"), get("six.example.com"));
  await exchange(await egress.connect("http"), get("mapped.example.com"));
  assertEquals(await egress.ended(2), ["reserved_address", "reserved_address"]);
  assertEquals(egress.dialed, []);
});

Deno.test("a name whose address changes to a private one after the first look is refused", async () => {
  await using server = webServer();
  await using egress = await LoopbackProxy.start({ "rebind.example.com": { A: [PUBLIC_ADDRESS], ttl: 0 } });
  egress.servers.set(80, server.addr.port);
  await egress.proxy.setRules(egress.slot, ["rebind.example.com"]);
  assertStringIncludes(await exchange(await egress.connect("http"), get("rebind.example.com")), "200 OK");
  egress.dns.zone = { "rebind.example.com": { A: ["127.0.0.1"], ttl: 0 } };
  // The first answer is kept for a second; the connection after it meets the second one.
  for (;;) {
    const answer = await exchange(await egress.connect("http"), get("rebind.example.com"));
    if (answer.includes("403 Forbidden")) break;
    assertStringIncludes(answer, "200 OK");
  }
  assertEquals(egress.outcomes.at(-1)?.outcome, "reserved_address");
  assertEquals(new Set(egress.dialed), new Set([`${PUBLIC_ADDRESS}:80`]));
});

Deno.test("a second request on a connection reaches nobody", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using egress = await LoopbackProxy.start(ZONE);
  egress.servers.set(80, (listener.addr as Deno.NetAddr).port);
  await egress.proxy.setRules(egress.slot, ["allowed.example.com"]);
  const smuggled = [
    get("allowed.example.com") + get("other.example.com"),
    `POST / HTTP/1.1\r\nHost: allowed.example.com\r\nContent-Length: 2\r\n\r\nab${get("other.example.com")}`,
    `POST / HTTP/1.1\r\nHost: allowed.example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${
      get("other.example.com")
    }`,
    `GET / HTTP/1.1\r\nHost: allowed.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n${
      get("other.example.com")
    }`,
  ];
  for (const [index, text] of smuggled.entries()) {
    const server = listener.accept();
    const answered = exchange(await egress.connect("http"), text);
    using accepted = await server;
    const seen = await readAll(accepted);
    assertStringIncludes(seen, "Host: allowed.example.com");
    assert(!seen.includes("other.example.com"));
    assertEquals(await answered, "");
    assertEquals((await egress.ended(index + 1)).at(-1), "pipelined");
  }
  listener.close();
});

Deno.test("a WebSocket passes once the server has agreed", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using egress = await LoopbackProxy.start(ZONE);
  egress.servers.set(80, (listener.addr as Deno.NetAddr).port);
  await egress.proxy.setRules(egress.slot, ["allowed.example.com"]);
  using client = await egress.connect("http");
  await client.write(new TextEncoder().encode(
    "GET / HTTP/1.1\r\nHost: allowed.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
  ));
  using server = await listener.accept();
  listener.close();
  const buffer = new Uint8Array(1000);
  await server.read(buffer);
  await server.write(new TextEncoder().encode("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n"));
  await server.write(new TextEncoder().encode("Upgrade: websocket\r\n\r\nhello"));
  let got = "";
  while (!got.endsWith("hello")) got += new TextDecoder().decode(buffer.subarray(0, (await client.read(buffer))!));
  await client.write(Uint8Array.of(1, 2, 3));
  assertEquals(await server.read(buffer), 3);
  await client.closeWrite();
  assertEquals(await server.read(buffer), null);
  await server.write(Uint8Array.of(4));
  assertEquals(await client.read(buffer), 1);
  await server.closeWrite();
  assertEquals(await client.read(buffer), null);
  assertEquals(await egress.ended(1), ["passed"]);
});

Deno.test("a TLS connection reaches the server of its name, which answers to it", async () => {
  const certificate = await testCertificate("allowed.example.com");
  const listener = Deno.listenTls({ hostname: "127.0.0.1", port: 0, ...certificate });
  await using egress = await LoopbackProxy.start(ZONE);
  egress.servers.set(443, (listener.addr as Deno.NetAddr).port);
  await egress.proxy.setRules(egress.slot, ["allowed.example.com"]);
  const accepting = listener.accept();
  const raw = await egress.connect("tls");
  using client = await Deno.startTls(raw, { hostname: "allowed.example.com", caCerts: [certificate.cert] });
  const [, server] = await Promise.all([client.handshake(), accepting]);
  listener.close();
  const data = crypto.getRandomValues(new Uint8Array(65_536));
  const sending = (async () => {
    for (let turn = 0; turn < 32; turn++) {
      for (let at = 0; at < data.length;) at += await client.write(data.subarray(at));
    }
    await client.closeWrite();
  })();
  let received = 0;
  const buffer = new Uint8Array(65_536);
  for (let count = await server.read(buffer); count !== null; count = await server.read(buffer)) {
    for (let at = 0; at < count; at++) assert(buffer[at] === data[(received + at) % data.length]);
    received += count;
  }
  await sending;
  assertEquals(received, 32 * data.length);
  server.close();
});

Deno.test("TLS connections that the rules do not allow end with an alert", async () => {
  await using egress = await LoopbackProxy.start(ZONE);
  await egress.proxy.setRules(egress.slot, ["allowed.example.com", "private.example.com", "gone.example.com"]);
  const refused = async (text: string, alert: string, reason: string) => {
    assertEquals(await exchange(await egress.connect("tls"), text), alert);
    assertEquals(egress.outcomes.at(-1)?.outcome, reason);
  };
  const odd = (parts: Parameters<typeof clientHello>[0]) => String.fromCharCode(...inRecords(clientHello(parts)));
  await refused(hello("other.example.com"), ACCESS_DENIED, "not_allowed");
  await refused(hello("private.example.com"), ACCESS_DENIED, "reserved_address");
  await refused(hello("gone.example.com"), INTERNAL_ERROR, "not_resolved");
  await refused(hello("allowed.example.com"), INTERNAL_ERROR, "not_connected");
  await refused(odd({ names: [] }), UNRECOGNIZED_NAME, "no_name");
  await refused(odd({ names: ["1.1.1.1"] }), UNRECOGNIZED_NAME, "bad_name");
  await refused(odd({ names: ["allowed.example.com", "other.example.com"] }), DECODE_ERROR, "malformed");
  const encrypted = odd({ names: ["allowed.example.com"], extensions: [[0xfe0d, new Uint8Array(100)]] });
  await refused(encrypted, ACCESS_DENIED, "encrypted_hello");
  await refused("SSH-2.0-OpenSSH_9.2\r\n", DECODE_ERROR, "malformed");
  await refused(String.fromCharCode(0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff), DECODE_ERROR, "head_too_large");
});

Deno.test("a hello that arrives byte by byte in many records passes as it came", async () => {
  await using echo = echoServer();
  await using egress = await LoopbackProxy.start(ZONE);
  egress.servers.set(443, echo.port);
  await egress.proxy.setRules(egress.slot, ["allowed.example.com"]);
  using client = await egress.connect("tls");
  client.setNoDelay(true);
  const bytes = inRecords(clientHello({ names: ["allowed.example.com"] }), 5);
  for (const byte of bytes) await client.write(Uint8Array.of(byte));
  await client.closeWrite();
  assertEquals(await readAll(client), String.fromCharCode(...bytes));
});

Deno.test("a client that does not say in time what it wants is cut, also where the server would speak first", async () => {
  await using egress = await LoopbackProxy.start(ZONE, { headMs: 200 });
  await egress.proxy.setRules(egress.slot, ["allowed.example.com"]);
  using silent = await egress.connect("tls");
  assertEquals(await readAll(silent), INTERNAL_ERROR);
  using slow = await egress.connect("tls");
  const bytes = inRecords(clientHello({ names: ["allowed.example.com"] }));
  await slow.write(bytes.subarray(0, 20));
  assertEquals(await readAll(slow), INTERNAL_ERROR);
  using http = await egress.connect("http");
  await http.write(new TextEncoder().encode("GET / HTTP/1.1\r\nX: "));
  assertStringIncludes(await readAll(http), "HTTP/1.1 408 Request Timeout");
  assertEquals(await egress.ended(3), ["head_timeout", "head_timeout", "head_timeout"]);
});

Deno.test("tighter rules cut the open connections that they do not allow, and no others", async () => {
  await using echo = echoServer();
  await using egress = await LoopbackProxy.start(ZONE);
  egress.servers.set(443, echo.port);
  await egress.proxy.setRules(egress.slot, ["*.example.com"]);
  const open = async (name: string) => {
    const client = await egress.connect("tls");
    const sent = inRecords(clientHello({ names: [name] }));
    await client.write(sent);
    assertEquals(await client.read(new Uint8Array(1000)), sent.length);
    return client;
  };
  using kept = await open("allowed.example.com");
  using cut = await open("other.example.com");
  await egress.proxy.setRules(egress.slot, ["allowed.example.com"]);
  assertEquals(await readAll(cut), "");
  await kept.write(Uint8Array.of(42));
  assertEquals(await kept.read(new Uint8Array(10)), 1);
  assertEquals(await egress.ended(1), ["rules_changed"]);
  await egress.proxy.setRules(egress.slot, []);
  assertEquals(await readAll(kept), "");
  assertEquals([egress.proxy.slotAddresses, egress.proxy.connections], [[], 0]);
  const again = await egress.connect("tls").then(() => "connected", (error) => error);
  assert(again instanceof Deno.errors.ConnectionRefused);
});

Deno.test("1,000 idle connections of one sandbox are cut in time", async () => {
  await using egress = await LoopbackProxy.start(ZONE, { connectionsPerSlot: 1000, headMs: 60_000, idleMs: 400 });
  await egress.proxy.setRules(egress.slot, ["allowed.example.com"]);
  const clients: Deno.TcpConn[] = [];
  for (let index = 0; index < 1000; index++) clients.push(await egress.connect("tls"));
  await Promise.all(clients.map((client) => readAll(client).finally(() => client.close())));
  const outcomes = await egress.ended(1000);
  assertEquals(outcomes.filter((outcome) => outcome !== "idle"), []);
});

Deno.test("a client that does not read what it has asked for is cut in time, and holds no memory", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using egress = await LoopbackProxy.start(ZONE, { idleMs: 300 });
  egress.servers.set(80, (listener.addr as Deno.NetAddr).port);
  await egress.proxy.setRules(egress.slot, ["allowed.example.com"]);
  using client = await egress.connect("http");
  await client.write(new TextEncoder().encode(get("allowed.example.com")));
  using server = await listener.accept();
  listener.close();
  let sent = 0;
  const failed = await (async () => {
    for (;;) sent += await server.write(new Uint8Array(65_536));
  })().catch((error) => error);
  assert(failed instanceof Deno.errors.ConnectionReset || failed instanceof Deno.errors.BrokenPipe, String(failed));
  // What the kernel's socket buffers took, not what the server had.
  assert(sent < 32 << 20, `${sent} bytes`);
  assertEquals(await egress.ended(1), ["idle"]);
});

Deno.test("whatever clients send, nothing is dialed for it and others are served", async () => {
  await using server = webServer();
  await using egress = await LoopbackProxy.start(ZONE, { headMs: 100 });
  egress.servers.set(80, server.addr.port);
  await egress.proxy.setRules(egress.slot, ["allowed.example.com"]);
  const good = [
    inRecords(clientHello({ names: ["other.example.com"] })),
    new TextEncoder().encode(get("other.example.com")),
  ];
  const odd = fc.tuple(
    fc.constantFrom("http", "tls"),
    fc.constantFrom(...good),
    fc.nat(400),
    fc.uint8Array({ maxLength: 50 }),
  );
  for (const [protocol, start, length, noise] of fc.sample(odd, 300)) {
    using client = await egress.connect(protocol as "http" | "tls");
    // It may have been cut by the first half.
    await client.write(Uint8Array.from([...start.subarray(0, length), ...noise])).catch(() => {});
    if (length % 2 === 0) await readAll(client);
  }
  assertEquals(egress.dialed, []);
  assertStringIncludes(await exchange(await egress.connect("http"), get("allowed.example.com")), "200 OK");
  assertEquals((await egress.ended(301)).filter((outcome) => outcome === "internal"), []);
});

Deno.test("connections of one sandbox, and of all, have a limit", async () => {
  for (
    const [limits, reason] of [[{ connections: 1 }, "host_limit"], [{ connectionsPerSlot: 1 }, "slot_limit"]] as const
  ) {
    await using egress = await LoopbackProxy.start(ZONE, limits);
    await egress.proxy.setRules(egress.slot, ["allowed.example.com"]);
    using first = await egress.connect("tls");
    using second = await egress.connect("tls");
    assertEquals(await readAll(second), "");
    assertEquals(await egress.ended(1), [reason]);
    await first.closeWrite();
    assertEquals(await readAll(first), "");
  }
});

Deno.test("who is not the slot's sandbox is not served", async () => {
  await using egress = await LoopbackProxy.start(ZONE);
  await egress.proxy.setRules({ hostAddress: "127.0.0.2", slotAddress: "127.0.0.9" }, ["allowed.example.com"]);
  assertEquals(await exchange(await egress.connect("http"), get("allowed.example.com")), "");
  assertEquals(await egress.ended(1), ["unknown_source"]);
});

Deno.test("a slot that is not there has no rules", async () => {
  await using egress = await LoopbackProxy.start(ZONE);
  const slot = { hostAddress: "192.0.2.1", slotAddress: "192.0.2.2" };
  const error = await egress.proxy.setRules(slot, ["allowed.example.com"]).catch((error) => error);
  assert(error instanceof Deno.errors.AddrNotAvailable);
  assertEquals(egress.proxy.slotAddresses, []);
});

Deno.test("a name is asked for once while its answer lasts", async () => {
  await using server = webServer();
  await using egress = await LoopbackProxy.start(ZONE);
  egress.servers.set(80, server.addr.port);
  await egress.proxy.setRules(egress.slot, ["allowed.example.com", "gone.example.com"]);
  for (let turn = 0; turn < 3; turn++) {
    await Promise.all(["allowed", "gone"].map(async (name) => {
      await exchange(await egress.connect("http"), get(`${name}.example.com`));
    }));
  }
  assertEquals(egress.dns.queries.filter((query) => query === "allowed.example.com A").length, 1);
  assertEquals(egress.dns.queries.filter((query) => query === "gone.example.com A").length, 1);
});
