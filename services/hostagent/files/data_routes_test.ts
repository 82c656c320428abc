import { assert, assertEquals, assertRejects } from "@std/assert";
import { newId } from "@torpor/ids";
import { type GuestService, startGuestService } from "../guest/testing/guest_service.ts";
import { TEST_USER } from "../guest/testing/native_agent.ts";

const user = TEST_USER;

function serviceTest(name: string, work: (service: GuestService) => Promise<void>): void {
  Deno.test(name, async () => {
    await using service = await startGuestService();
    await work(service);
    // Whatever happened to a body, the sandbox may go to sleep again.
    while (service.uses() > 0) await Deno.stat(service.agent.directory);
  });
}

serviceTest("50 MB in and out, with length and mode", async ({ fetch, fileRoute, agent }) => {
  const path = `${agent.directory}/big file`;
  const bytes = new Uint8Array(50_000_000);
  for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  let begin = performance.now();
  const put = await fetch(fileRoute(path, { user, mode: "600" }), { method: "PUT", body: bytes });
  console.log(`PUT: ${(50_000 / (performance.now() - begin)).toFixed(0)} MB/s`);
  assertEquals([put.status, await put.json()], [200, { path, size_bytes: 50_000_000, mode: 0o600 }]);
  begin = performance.now();
  const get = await fetch(fileRoute(path, { user }));
  const back = await get.bytes();
  console.log(`GET: ${(50_000 / (performance.now() - begin)).toFixed(0)} MB/s`);
  assertEquals([get.headers.get("content-length"), get.headers.get("content-type")], [
    "50000000",
    "application/octet-stream",
  ]);
  assertEquals(await crypto.subtle.digest("SHA-256", back), await crypto.subtle.digest("SHA-256", bytes));
});

serviceTest("empty files, and files of /proc, which have no size", async ({ fetch, fileRoute, agent }) => {
  const path = `${agent.directory}/empty`;
  assertEquals((await (await fetch(fileRoute(path, { user }), { method: "PUT" })).json()).size_bytes, 0);
  const empty = await fetch(fileRoute(path, { user }));
  assertEquals([empty.status, await empty.text()], [200, ""]);
  const version = await fetch(fileRoute("/proc/version", { user }));
  assert((await version.text()).startsWith("Linux version"));
});

serviceTest("errors before the first byte have a status and a code", async ({ fetch, fileRoute, agent }) => {
  const cases: [string, RequestInit, number, string][] = [
    [fileRoute("/no/such", { user }), {}, 404, "file_not_found"],
    [fileRoute(agent.directory, { user }), {}, 409, "file_precondition"],
    [fileRoute("", { user }), {}, 422, "invalid_argument"],
    [fileRoute("/x", { user, mode: "9" }), { method: "PUT" }, 422, "invalid_argument"],
    [fileRoute("/x", { user: "a:b" }), {}, 422, "invalid_argument"],
    [fileRoute("/x"), { method: "DELETE" }, 405, "method_not_allowed"],
    [`/sandboxes/${newId()}/files?path=/x`, {}, 404, "sandbox_not_found"],
    [`/sandboxes/x/elsewhere`, {}, 404, "not_found"],
  ];
  for (const [route, init, status, code] of cases) {
    const response = await fetch(route, init);
    assertEquals([route, response.status, (await response.json()).code], [route, status, code]);
  }
});

serviceTest("a guest that goes away in the middle cuts the body", async ({ fetch, fileRoute, agent }) => {
  const path = `${agent.directory}/large`;
  await Deno.writeFile(path, new Uint8Array(20_000_000));
  const response = await fetch(fileRoute(path, { user }));
  const reader = response.body!.getReader();
  await reader.read();
  agent.disconnectHost();
  await assertRejects(async () => {
    while (!(await reader.read()).done);
  });
});

serviceTest("a file without a known length is cut as abruptly", async ({ fetch, fileRoute, agent }) => {
  const response = await fetch(fileRoute("/dev/zero", { user }));
  assertEquals(response.headers.get("content-length"), null);
  const reader = response.body!.getReader();
  await reader.read();
  agent.disconnectHost();
  await assertRejects(async () => {
    while (!(await reader.read()).done);
  });
});

serviceTest("a client that leaves in the middle of a GET stops the guest", async ({ fetch, fileRoute, channel }) => {
  const response = await fetch(fileRoute("/dev/zero", { user }));
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
  await channel.ping();
});

serviceTest("a client that leaves in the middle of a PUT leaves the old file", async (service) => {
  const { fetch, fileRoute, agent, channel, uses } = service;
  const path = `${agent.directory}/file`;
  await Deno.writeTextFile(path, "old");
  const sent = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new Uint8Array(1000)),
    pull: () => {
      sent.resolve();
      return new Promise(() => {});
    },
  }, { highWaterMark: 0 });
  const controller = new AbortController();
  const putting = fetch(fileRoute(path, { user }), { method: "PUT", body, signal: controller.signal });
  await sent.promise;
  while (uses() === 0) await channel.ping();
  controller.abort();
  await assertRejects(() => putting);
  while (uses() > 0) await channel.ping();
  assertEquals(await Deno.readTextFile(path), "old");
});

serviceTest("a reader that stalls holds the guest back", async ({ fetch, fileRoute, agent, channel }) => {
  const path = `${agent.directory}/fifo`;
  await new Deno.Command("mkfifo", { args: [path] }).output();
  // The writer reports how many bytes the pipe has taken.
  const writer = await channel.startProcess({
    argv: ["dd", "if=/dev/zero", `of=${path}`, "bs=64k", "count=1000", "status=none"],
    user,
  });
  const response = await fetch(fileRoute(path, { user }));
  const reader = response.body!.getReader();
  await reader.read();
  // A second file passes while 60 MB wait behind the first.
  assertEquals((await (await fetch(fileRoute("/proc/version", { user }))).text()).length > 0, true);
  assertEquals((await channel.listProcesses()).find(({ pid }) => pid === writer.pid)?.running, true);
  await reader.cancel();
  for await (const event of writer) if (event.type === "exited") assertEquals(event.signal, 13);
});
