import { assert, assertEquals, assertRejects } from "@std/assert";
import { SandboxService } from "@torpor/proto/torpor";
import { TorporError } from "@torpor/errors";
import { TestApi } from "./harness.ts";

const MIB = 1024 * 1024;

/** Random bytes of any length; the Web's generator gives 64 KiB at a time. */
function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  return bytes;
}

/**
 * Uploads `total` zero bytes with a Content-Length, which Deno's fetch cannot send with a stream, and returns the status
 * line. Its own connection, so that the test's memory is the service's.
 */
async function uploadSized(api: TestApi, path: string, total: number, onChunk: () => void): Promise<string> {
  if (api.address.transport !== "tcp") throw new Error("the api of a test listens on TCP");
  using connection = await Deno.connect({ hostname: api.address.hostname, port: api.address.port });
  const head = `PUT ${path} HTTP/1.1\r\nhost: test\r\nx-api-key: ${api.key}\r\ncontent-length: ${total}\r\n` +
    "connection: close\r\n\r\n";
  const writer = connection.writable.getWriter();
  await writer.write(new TextEncoder().encode(head));
  const chunk = new Uint8Array(MIB);
  for (let sent = 0; sent < total; sent += chunk.length) {
    await writer.write(chunk);
    onChunk();
  }
  writer.releaseLock();
  const answer = await new Response(connection.readable).text();
  return answer.slice(0, answer.indexOf("\r\n"));
}

Deno.test("a file goes in and comes out unchanged", async () => {
  await using api = await TestApi.start();
  const path = `/v1/sandboxes/${await api.createSandbox()}/files?path=${encodeURIComponent("/tmp/grüße & more?.bin")}`;
  const content = randomBytes(3 * MIB + 17);
  assertEquals((await api.call("PUT", path, { body: content })).status, 204);
  const response = await api.open("GET", path);
  assertEquals(
    [response.status, response.headers.get("content-type"), response.headers.get("content-length")],
    [200, "application/octet-stream", String(content.length)],
  );
  assertEquals(response.headers.get("x-content-type-options"), "nosniff");
  assertEquals(new Uint8Array(await response.arrayBuffer()), content);
  assertEquals((await api.call("PUT", path)).status, 204, "an empty file");
  assertEquals((await api.call("GET", path)).text, "");
  const missing = await api.call("GET", path.replace("tmp", "no"));
  assertEquals([missing.status, missing.json.code], [404, "file_not_found"]);
  const denied = await api.call("PUT", path.replace(/path=.*/, "path=/denied"), { body: "x" });
  assertEquals([denied.status, denied.json.code], [403, "permission_denied"]);
});

Deno.test("256 MiB each way in constant memory", async () => {
  await using api = await TestApi.start();
  const base = `/v1/sandboxes/${await api.createSandbox()}/files`;
  const size = 256 * MIB;
  const before = Deno.memoryUsage().rss;
  let peak = before;
  const watch = () => peak = Math.max(peak, Deno.memoryUsage().rss);

  const sent = performance.now();
  assertEquals(await uploadSized(api, `${base}?path=/dev/null`, size, watch), "HTTP/1.1 204 No Content");
  const sendRate = 256 / (performance.now() - sent) * 1000;
  assertEquals([api.host.discarded, api.host.uploadFinished], [size, true]);

  const response = await api.open("GET", `${base}?path=/dev/zero&user=u${size}`);
  const received = performance.now();
  let total = 0;
  for await (const chunk of response.body!) {
    total += chunk.length;
    watch();
  }
  const receiveRate = 256 / (performance.now() - received) * 1000;
  assertEquals(total, size);
  const grown = (peak - before) / MIB;
  console.log(`up ${sendRate.toFixed(0)} MiB/s, down ${receiveRate.toFixed(0)} MiB/s, memory +${grown.toFixed(0)} MiB`);
  assert(grown < 128, `memory grew by ${grown} MiB: client, api and host of this process together`);
});

Deno.test("a slow reader holds the host back, and when it leaves the host is told", async () => {
  await using api = await TestApi.start();
  const path = `/v1/sandboxes/${await api.createSandbox()}/files?path=/dev/zero`;
  const response = await api.open("GET", path);
  const reader = response.body!.getReader();
  await reader.read();
  let last = -1;
  while (last !== api.host.produced) {
    last = api.host.produced;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert(api.host.produced < 32 * MIB, `${api.host.produced} bytes were read for nobody`);
  await reader.cancel();
  assertEquals(await api.host.abandoned.promise, "download");
});

Deno.test("an upload that breaks off does not look complete to the host", async () => {
  await using api = await TestApi.start();
  const path = `/v1/sandboxes/${await api.createSandbox()}/files?path=/dev/null`;
  const leaving = new AbortController();
  const body = new ReadableStream({
    pull: (controller) => {
      if (api.host.discarded > MIB) leaving.abort();
      else controller.enqueue(new Uint8Array(65536));
    },
  }, { highWaterMark: 0 });
  await assertRejects(() => api.open("PUT", path, { body }, leaving.signal));
  assertEquals(await api.host.abandoned.promise, "upload");
  assertEquals(api.host.uploadFinished, false);
});

Deno.test("a download that breaks off is an error, not a short file, on both surfaces", async () => {
  await using api = await TestApi.start();
  const sandboxId = await api.createSandbox();
  const response = await api.open("GET", `/v1/sandboxes/${sandboxId}/files?path=/broken`);
  assertEquals(response.status, 200);
  await assertRejects(() => response.arrayBuffer());
  api.host.produced = 0;
  using client = api.client(SandboxService);
  await assertRejects(async () => {
    for await (const _chunk of client.readFileStream({ sandboxId, path: "/broken" }));
  }, TorporError);
});

Deno.test("stat, list, mkdir, remove", async () => {
  await using api = await TestApi.start();
  const base = `/v1/sandboxes/${await api.createSandbox()}/files`;
  await api.call("PUT", `${base}?path=/tmp/a`, { body: "four" });
  const file = (await api.call("GET", `${base}/stat?path=/tmp/a&user=root`)).json;
  assertEquals([file.name, file.type, file.size_bytes, file.mode], ["a", "file", 4, "0644"]);
  assertEquals((await api.call("GET", `${base}/list?path=/tmp&depth=2`)).json.files, [file]);
  assertEquals((await api.call("POST", `${base}/mkdir`, { json: { path: "/tmp/d" } })).status, 204);
  assertEquals(api.host.calls.at(-1), { method: "makeDirectory", request: "/tmp/d" });
  assertEquals((await api.call("DELETE", `${base}?path=/tmp/a&recursive=true`)).status, 204);
  assertEquals((await api.call("GET", `${base}/stat?path=/tmp/a`)).json.code, "file_not_found");
});

Deno.test("files over ConnectRPC, whole and in streams", async () => {
  await using api = await TestApi.start();
  using client = api.client(SandboxService);
  const sandboxId = await api.createSandbox();
  const content = randomBytes(2 * MIB);
  await client.writeFile({ sandboxId, path: "/f", content, mode: 0o600 });
  assertEquals((await client.readFile({ sandboxId, path: "/f" })).content, content);

  await client.writeFileStream((async function* () {
    yield { content: { case: "meta" as const, value: { sandboxId, path: "/g" } } };
    for (let at = 0; at < content.length; at += MIB / 2) {
      yield { content: { case: "chunk" as const, value: content.subarray(at, at + MIB / 2) } };
    }
  })());
  const chunks: Uint8Array[] = [];
  for await (const { chunk } of client.readFileStream({ sandboxId, path: "/g" })) chunks.push(chunk);
  assertEquals(new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer()), content);

  const wrong = await assertRejects(() =>
    client.writeFileStream((async function* () {
      yield { content: { case: "chunk" as const, value: new Uint8Array(1) } };
    })()), TorporError);
  assertEquals([wrong.code, wrong.field], ["invalid_argument", "meta"]);
  const twice = await assertRejects(() =>
    client.writeFileStream((async function* () {
      for (let n = 0; n < 2; n++) yield { content: { case: "meta" as const, value: { sandboxId, path: "/h" } } };
    })()), TorporError);
  assertEquals([twice.code, twice.field], ["invalid_argument", "meta"]);
  assertEquals(api.host.files.has("/h"), false);
  const large = await assertRejects(
    () => client.writeFile({ sandboxId, path: "/f", content: new Uint8Array(16 * MIB + 1) }),
    TorporError,
  );
  assertEquals(large.code, "payload_too_large");
});
