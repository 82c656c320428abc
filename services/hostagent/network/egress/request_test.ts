import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Refusal, type RefusalReason } from "./refusal.ts";
import { requestBody } from "./request_body.ts";
import { endOfHead, readRequestHead, type RequestHead } from "./request_head.ts";

const bytesOf = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0));
const textOf = (bytes: Uint8Array) => String.fromCharCode(...bytes);
const read = (text: string): RequestHead => readRequestHead(bytesOf(text));

function refusedAs(reason: RefusalReason, text: string): void {
  assertEquals(assertThrows(() => read(text), Refusal, undefined, text).reason, reason, text);
}

Deno.test("a request is sent on as the last one of its connection", () => {
  const head = read(
    "GET /a?b HTTP/1.1\r\nHost: WWW.example.com:80\r\nX-A:  b \r\nConnection: keep-alive, X-B\r\nX-B: c\r\n\r\n",
  );
  assertEquals([head.host, head.upgrade, head.body], ["www.example.com", false, { kind: "length", bytes: 0 }]);
  assertEquals(
    textOf(head.forwarded),
    "GET /a?b HTTP/1.1\r\nHost: WWW.example.com:80\r\nX-A:  b \r\nConnection: close\r\n\r\n",
  );
});

Deno.test("a WebSocket may be asked for, another protocol is not", () => {
  const ask = (protocol: string, more = "") =>
    read(`GET / HTTP/1.1\r\nHost: a.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: ${protocol}\r\n${more}\r\n`);
  assertEquals(ask("websocket").upgrade, true);
  assert(textOf(ask("websocket").forwarded).endsWith("Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
  for (const head of [ask("h2c", "HTTP2-Settings: AAMAAABkAAQAAP__\r\n"), ask("websocket", "Content-Length: 4\r\n")]) {
    assertEquals(head.upgrade, false);
    assert(!/upgrade|settings/i.test(textOf(head.forwarded)));
  }
});

Deno.test("a request with more than one meaning is refused", () => {
  const h = "Host: a.com\r\n";
  refusedAs("malformed", `GET / HTTP/1.1\r\n${h}Host: b.com\r\n\r\n`);
  refusedAs("malformed", `GET http://b.com/ HTTP/1.1\r\n${h}\r\n`);
  refusedAs("malformed", `GET //b.com HTTP/1.1 \r\n${h}\r\n`);
  refusedAs("malformed", `CONNECT b.com:80 HTTP/1.1\r\n${h}\r\n`);
  refusedAs("malformed", `GET / HTTP/2.0\r\n${h}\r\n`);
  refusedAs("malformed", `GET / HTTP/1.1\r\n${h}X: a\r\n b\r\n\r\n`);
  refusedAs("malformed", `GET / HTTP/1.1\r\n Host: b.com\r\n${h}\r\n`);
  refusedAs("malformed", `GET / HTTP/1.1\r\nHost : a.com\r\n\r\n`);
  refusedAs("malformed", `GET / HTTP/1.1\r\nX: a\nHost: b.com\r\n${h}\r\n`);
  refusedAs("malformed", `GET / HTTP/1.1\r\nX: a\rHost: b.com\r\n${h}\r\n`);
  refusedAs("malformed", `GET / HTTP/1.1\r\nX: \0\r\n${h}\r\n`);
  refusedAs("malformed", `POST / HTTP/1.1\r\n${h}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`);
  refusedAs("malformed", `POST / HTTP/1.1\r\n${h}Content-Length: 1\r\nContent-Length: 2\r\n\r\n`);
  refusedAs("malformed", `POST / HTTP/1.1\r\n${h}Content-Length: +1\r\n\r\n`);
  refusedAs("malformed", `POST / HTTP/1.1\r\n${h}Content-Length: 1, 1\r\n\r\n`);
  refusedAs("malformed", `POST / HTTP/1.1\r\n${h}Transfer-Encoding: xchunked\r\n\r\n`);
  refusedAs("malformed", `POST / HTTP/1.1\r\n${h}Transfer-Encoding: gzip, chunked\r\n\r\n`);
  refusedAs("malformed", `POST / HTTP/1.1\r\n${h}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n`);
  refusedAs("malformed", `POST / HTTP/1.0\r\n${h}Transfer-Encoding: chunked\r\n\r\n`);
  refusedAs("malformed", `GET / HTTP/1.1\r\n${h}Connection: close, Host\r\n\r\n`);
  refusedAs("malformed", `\r\n\r\n`);
});

Deno.test("a request for no name is refused", () => {
  refusedAs("no_name", `GET / HTTP/1.1\r\n\r\n`);
  refusedAs("no_name", `GET / HTTP/1.1\r\nHost:\r\n\r\n`);
  for (const host of ["1.1.1.1", "a.com:8080", "user@a.com", "a.com,b.com", "[::1]", "a.com/", "a.com.", "a"]) {
    refusedAs("bad_name", `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  }
});

Deno.test("the end of a head", () => {
  assertEquals(endOfHead(bytesOf("a\r\n\r\nb")), 5);
  assertEquals(endOfHead(bytesOf("a\r\n\n\r\n")), -1);
  assertEquals(endOfHead(bytesOf("a\n\n")), -1);
  assertEquals(endOfHead(bytesOf("\r\n\r\n")), 4);
});

const CHUNKED = "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\n";

Deno.test("a body ends where it says, however its bytes arrive", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }), fc.string(), (sizes, after) => {
    for (
      const [framing, text] of [
        [{ kind: "chunked" }, CHUNKED],
        [{ kind: "length", bytes: 7 }, "1234567"],
      ] as const
    ) {
      const body = requestBody(framing);
      let taken = 0;
      const all = bytesOf(text + after);
      for (let at = 0, turn = 0; at < all.length; turn++) {
        const part = all.subarray(at, at + sizes[turn % sizes.length]!);
        taken += body.take(part);
        at += part.length;
      }
      assertEquals([taken, body.done], [text.length, true]);
    }
  }));
});

Deno.test("chunks that two readers could read in two ways are refused", () => {
  for (
    const text of [
      "g\r\n",
      "\r\n",
      "0x3\r\nabc",
      "-1\r\n",
      "3\nabc",
      "3\r\nabcd\r\n",
      "3\r\nabc\n0\r\n",
      "3 4\r\n",
      "1000000000000000\r\n",
      "1;\0\r\n",
      "0\r\nX\r\n",
      "0\r\nX : y\r\n",
      "0\r\n X: y\r\n",
      `1;${"a".repeat(2000)}`,
      `0\r\n${"X: y\r\n".repeat(3000)}`,
    ]
  ) {
    const { reason } = assertThrows(
      () => requestBody({ kind: "chunked" }).take(bytesOf(text)),
      Refusal,
      undefined,
      text,
    );
    assertEquals(reason, "malformed");
  }
});

Deno.test("whatever a client sends as a head, it is read or refused", () => {
  const line = fc.constantFrom(
    "Host: a.com",
    "Host: b.com",
    "Content-Length: 3",
    "Transfer-Encoding: chunked",
    "X: y",
    " z",
    "",
  );
  const noise = fc.string({ unit: "binary-ascii", maxLength: 40 });
  fc.assert(
    fc.property(fc.array(fc.oneof(line, noise)), (lines) => {
      const text = ["GET / HTTP/1.1", ...lines, "", ""].join("\r\n");
      try {
        const { forwarded } = read(text);
        // A strict reader and the servers behind agree on the host: there is one, and it is said once.
        assertEquals(textOf(forwarded).split("\r\n").filter((each) => /^host\s*:/i.test(each)).length, 1);
        assertEquals(endOfHead(forwarded), forwarded.length);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
      }
    }),
    { numRuns: 3000 },
  );
});
