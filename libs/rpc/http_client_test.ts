import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type Address, openAddressFetch } from "./mod.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** A server whose answer has no end. */
function serveEndless(path: string) {
  const left = Promise.withResolvers<void>();
  const server = Deno.serve({ path, onListen: () => {} }, () => {
    const body = new ReadableStream({
      pull: (controller) => controller.enqueue(new Uint8Array(65536)),
      cancel: () => left.resolve(),
    }, { highWaterMark: 0 });
    return new Response(body, { headers: { "x-kept": "yes" } });
  });
  return { left: left.promise, [Symbol.asyncDispose]: () => server.shutdown() };
}

async function withServer(work: (address: Address, left: Promise<void>) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "s.sock");
  {
    await using server = serveEndless(path);
    await work({ transport: "unix", path }, server.left);
  }
  await Deno.remove(directory, { recursive: true });
}

Deno.test("an abort reaches the server after a garbage collection", async () => {
  await withServer(async (address, left) => {
    using http = openAddressFetch(address);
    const stop = new AbortController();
    const response = await http.fetch(http.baseUrl, { signal: stop.signal });
    assertEquals([response.status, response.headers.get("x-kept")], [200, "yes"]);
    const reader = response.body!.getReader();
    await reader.read();
    for (let round = 0; round < 3; round++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      collectGarbage();
    }
    stop.abort();
    await left;
    await assertRejects(() => reader.read(), DOMException, "aborted");
  });
});

Deno.test("a reader that cancels reaches the server too", async () => {
  await withServer(async (address, left) => {
    using http = openAddressFetch(address);
    const response = await http.fetch(http.baseUrl, { signal: new AbortController().signal });
    await response.body!.cancel();
    await left;
  });
});
