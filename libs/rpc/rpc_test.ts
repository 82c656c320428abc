import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { SchedulerService } from "@torpor/proto/scheduler";
import { ExecStreamResponseSchema, HostAgentService } from "@torpor/proto/hostagent";
import { create } from "@bufbuild/protobuf";
import { type Address, formatAddress, openAddressFetch, openClient, parseAddress, serve } from "./mod.ts";

const token = "secret";

async function startTestService(listen: Address) {
  return await serve({
    listen,
    token,
    routes: (router) => {
      router.service(SchedulerService, {
        place: (request) => {
          if (request.sandboxId === "") {
            throw new TorporError("invalid_argument", "sandbox_id is empty", { field: "sandbox_id", hint: "name one" });
          }
          if (request.sandboxId === "bug") throw new Error("/host/path leaks");
          return { hostId: "h", address: request.sandboxId };
        },
      });
      router.service(HostAgentService, {
        async *execStream(request) {
          yield create(ExecStreamResponseSchema, { event: { case: "start", value: { pid: 7 } } });
          if (request.cmd === "gone") throw new TorporError("vm_gone", "the VM ended");
        },
      });
    },
  });
}

for (const transport of ["unix", "tcp"] as const) {
  Deno.test(`calls, errors and streams over ${transport}`, async () => {
    const directory = await Deno.makeTempDir();
    const listen: Address = transport === "unix"
      ? { transport, path: join(directory, "s.sock") }
      : { transport, hostname: "127.0.0.1", port: 0 };
    {
      await using service = await startTestService(listen);
      using scheduler = openClient(SchedulerService, { address: service.address, token });
      assertEquals((await scheduler.place({ sandboxId: "x" })).address, "x");

      const invalid = await assertRejects(() => scheduler.place({}), TorporError);
      assertEquals([invalid.code, invalid.field, invalid.hint], ["invalid_argument", "sandbox_id", "name one"]);

      const bug = await assertRejects(() => scheduler.place({ sandboxId: "bug" }), TorporError);
      assertEquals(bug.code, "internal");
      assert(!bug.message.includes("/host/path"));

      const unimplemented = await assertRejects(() => scheduler.listHosts({}), TorporError);
      assertEquals(unimplemented.code, "unimplemented");

      using host = openClient(HostAgentService, { address: service.address, token });
      const events: string[] = [];
      const gone = await assertRejects(async () => {
        for await (const event of host.execStream({ cmd: "gone" })) events.push(event.event.case!);
      }, TorporError);
      assertEquals([events, gone.code], [["start"], "vm_gone"]);

      using stranger = openClient(SchedulerService, { address: service.address, token: "wrong" });
      assertEquals(
        (await assertRejects(() => stranger.place({ sandboxId: "x" }), TorporError)).code,
        "unauthenticated",
      );

      using http = openAddressFetch(service.address);
      assertEquals(await (await http.fetch(`${http.baseUrl}/healthz`)).text(), "ok\n");
    }
    await Deno.remove(directory, { recursive: true });
  });
}

Deno.test("a dead service is unavailable, and its socket file is replaced", async () => {
  const directory = await Deno.makeTempDir();
  const address: Address = { transport: "unix", path: join(directory, "s.sock") };
  const listener = Deno.listen(address);
  listener.close(); // Leaves the file, as a killed process does.
  {
    using client = openClient(SchedulerService, { address, token });
    assertEquals((await assertRejects(() => client.place({ sandboxId: "x" }), TorporError)).code, "unavailable");
  }
  {
    await using _service = await startTestService(address);
    using client = openClient(SchedulerService, { address, token });
    assertEquals((await client.place({ sandboxId: "x" })).address, "x");
  }
  await Deno.remove(directory, { recursive: true });
});

Deno.test("addresses", () => {
  assertEquals(parseAddress("unix:/run/x"), { transport: "unix", path: "/run/x" });
  assertEquals(parseAddress("http://a:1"), { transport: "tcp", hostname: "a", port: 1 });
  assertEquals(parseAddress("https://a:1#api"), { transport: "tls", hostname: "a", port: 1, peer: "api" });
  for (const text of ["https://0.0.0.0:7", "https://a:1#abcdefghij0123456789.host"]) {
    assertEquals(formatAddress(parseAddress(text)), text);
  }
  for (const odd of ["", "unix:x", "https://a#b", "https://u@a:1", "http://a#api", "http://a/b", "a:1"]) {
    try {
      parseAddress(odd);
    } catch (error) {
      assertEquals((error as TorporError).code, "config_invalid");
      continue;
    }
    throw new Error(`accepted ${odd}`);
  }
});

for (const transport of ["unix", "tcp"] as const) {
  Deno.test(`a reader that stalls does not hold a service that stops, over ${transport}`, async () => {
    const directory = await Deno.makeTempDir();
    const listen: Address = transport === "unix"
      ? { transport, path: join(directory, "s.sock") }
      : { transport, hostname: "127.0.0.1", port: 0 };
    const chunk = new Uint8Array(65_536);
    const endless = () => new ReadableStream({ pull: (controller) => controller.enqueue(chunk) });
    const service = await serve({
      listen,
      routes: () => {},
      graceMs: 50,
      http: () => new Response(endless()),
    });
    using http = openAddressFetch(service.address);
    const { body } = await http.fetch(`${http.baseUrl}/`);
    const reader = body!.getReader();
    await reader.read();
    await service[Symbol.asyncDispose]();
    await reader.cancel();
    await Deno.remove(directory, { recursive: true });
  });
}

for (const transport of ["unix", "tcp"] as const) {
  Deno.test(`a server that can give connections away answers as the others do, over ${transport}`, async () => {
    const directory = await Deno.makeTempDir();
    const listen: Address = transport === "unix"
      ? { transport, path: join(directory, "s.sock") }
      : { transport, hostname: "127.0.0.1", port: 0 };
    {
      await using service = await serve({
        listen,
        routes: () => {},
        http: (request) => new Response(request.url.replace(/^http:..[^/]*/, "")),
        diversion: { takes: () => false, request: () => {}, upgrade: () => {} },
      });
      using http = openAddressFetch(service.address);
      const answers = ["/a/b?c=d", "/healthz", "//other/x"].map(async (path) =>
        await (await http.fetch(`${http.baseUrl}${path}`)).text()
      );
      assertEquals(await Promise.all(answers), ["/a/b?c=d", "ok\n", "//other/x"]);
    }
    await Deno.remove(directory, { recursive: true });
  });
}
