import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { readClientHello } from "./client_hello.ts";
import { Refusal, type RefusalReason } from "./refusal.ts";
import { clientHello, inRecords } from "./testing/client_hello.ts";

function refusedAs(reason: RefusalReason, bytes: Uint8Array): void {
  assertEquals(assertThrows(() => readClientHello(bytes), Refusal).reason, reason);
}

Deno.test("the server name of a hello in one record and in many", () => {
  const hello = clientHello({ names: ["API.Example.com"] });
  for (const size of [16_384, 100, 40, 7]) {
    assertEquals(readClientHello(inRecords(hello, size)), { serverName: "api.example.com" });
  }
});

Deno.test("the hello of a real client", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const raw = Deno.connect({ hostname: "127.0.0.1", port });
  using accepted = await listener.accept();
  const client = await Deno.startTls(await raw, { hostname: "www.example.com", alpnProtocols: ["h2", "http/1.1"] });
  const handshake = client.handshake().catch(() => {});
  const buffer = new Uint8Array(16_384);
  const count = await accepted.read(buffer);
  assertEquals(readClientHello(buffer.subarray(0, count!)), { serverName: "www.example.com" });
  client.close();
  await handshake;
});

Deno.test("a part of a hello needs more, never more than there is to come", () => {
  const bytes = inRecords(clientHello({}), 50);
  for (let length = 0; length < bytes.length; length++) {
    const result = readClientHello(bytes.subarray(0, length));
    assert("needBytes" in result && result.needBytes > length && result.needBytes <= bytes.length);
  }
});

Deno.test("what names no server, or hides it, is refused", () => {
  refusedAs("no_name", inRecords(clientHello({ names: [] })));
  refusedAs("encrypted_hello", inRecords(clientHello({ extensions: [[0xfe0d, new Uint8Array(40)]] })));
  refusedAs("encrypted_hello", inRecords(clientHello({ names: [], extensions: [[0xffce, new Uint8Array(4)]] })));
  for (
    const name of ["10.0.0.1", "localhost", "a..example.com", "example.com.", "exa mple.com", "0x7f.1", "é.com", ""]
  ) {
    refusedAs("bad_name", inRecords(clientHello({ names: [name] })));
  }
  refusedAs("bad_name", inRecords(clientHello({ names: [`example.com\0.evil.com`] })));
});

Deno.test("what two readers could read in two ways is refused", () => {
  refusedAs("malformed", inRecords(clientHello({ names: ["example.com", "evil.com"] })));
  const second = inRecords(clientHello({ extensions: [[0, Uint8Array.of(0, 6, 0, 0, 3, 97, 46, 98)]] }));
  refusedAs("malformed", second);
  refusedAs("malformed", Uint8Array.of(0x80, 0x2e, 1, 3, 1));
  refusedAs("malformed", new TextEncoder().encode("SSH-2.0-OpenSSH"));
  refusedAs("malformed", Uint8Array.of(0x16, 3, 1, 0, 0));
  refusedAs("malformed", Uint8Array.of(0x16, 3, 1, 0x40, 1));
  const twice = clientHello({});
  refusedAs("malformed", inRecords(Uint8Array.from([...twice, ...twice])));
  refusedAs("malformed", inRecords(clientHello({}), 1).subarray(0, 64 * 6 + 6));
});

Deno.test("whatever a client sends, the reader answers or refuses", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
    readOrRefuse(noise);
    readOrRefuse(Uint8Array.of(0x16, 3, 1, 0, noise.length & 255, ...noise));
  }));
});

Deno.test("a hello with wrong bytes is read as a name of it, or refused", () => {
  const good = inRecords(clientHello({ names: ["a.example.com"] }), 60);
  const change = fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 4 }), fc.nat(good.length), (changes, length) => {
      const bytes = good.slice(0, good.length - (length % 3 === 0 ? length : 0));
      for (const { at, value } of changes) if (at < bytes.length) bytes[at] = value;
      const result = readOrRefuse(bytes);
      if (result && "serverName" in result) {
        // The name is one that stands in the bytes: nothing was made up of lengths that do not fit.
        const text = String.fromCharCode(...bytes).toLowerCase();
        assert(result.serverName.split("").every((char) => text.includes(char)));
        assert(result.serverName.length <= 253);
      }
    }),
    { numRuns: 5000 },
  );
});

function readOrRefuse(bytes: Uint8Array): ReturnType<typeof readClientHello> | undefined {
  try {
    const result = readClientHello(bytes);
    if ("needBytes" in result) assert(result.needBytes > bytes.length);
    return result;
  } catch (error) {
    if (error instanceof Refusal) return undefined;
    throw error;
  }
}
