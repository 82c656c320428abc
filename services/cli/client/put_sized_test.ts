import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { putSized } from "./put_sized.ts";

/** A server for one test. */
function serve(handler: (request: Request) => Promise<Response> | Response) {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, handler);
  return { url: `http://127.0.0.1:${server.addr.port}/`, [Symbol.asyncDispose]: () => server.shutdown() };
}

function bytes(total: number): ReadableStream<Uint8Array> {
  let left = total;
  return new ReadableStream({
    pull(controller) {
      if (left === 0) return controller.close();
      const part = new Uint8Array(Math.min(left, 65536));
      left -= part.length;
      controller.enqueue(part);
    },
  });
}

Deno.test("a stream arrives whole and with its length", async () => {
  await using server = serve(async (request) => {
    let total = 0;
    for await (const chunk of request.body ?? []) total += chunk.length;
    const { headers } = request;
    return Response.json([total, headers.get("content-length"), headers.get("transfer-encoding"), headers.get("x-a")]);
  });
  for (const length of [0, 1, 5_000_000]) {
    const response = await putSized(server.url, { headers: { "x-a": "b" }, body: bytes(length), length });
    assertEquals(await response.json(), [length, String(length), null, "b"]);
  }
});

Deno.test("a refusal before the end of the body is the answer", async () => {
  await using server = serve(() => Response.json({ code: "permission_denied" }, { status: 403 }));
  const length = 1_000_000_000;
  const response = await putSized(server.url, { headers: {}, body: bytes(length), length });
  assertEquals([response.status, (await response.json()).code], [403, "permission_denied"]);
});

Deno.test("a source that fails, or no server, is an error with its cause", async () => {
  await using server = serve(async (request) => new Response(await request.text()));
  const failing = new ReadableStream<Uint8Array>({
    pull(controller) {
      controller.error(new Error("disk on fire"));
    },
  });
  const broken = await assertRejects(
    () => putSized(server.url, { headers: {}, body: failing, length: 9 }),
    TorporError,
  );
  assertEquals(broken.code, "unavailable");
  assert(broken.cause instanceof Error);
  const nobody = "http://127.0.0.1:1/";
  const refused = await assertRejects(() => putSized(nobody, { headers: {}, body: bytes(9), length: 9 }), TorporError);
  assertEquals(refused.code, "unavailable");
});
