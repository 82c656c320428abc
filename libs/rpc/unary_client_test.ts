import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { SchedulerService } from "@torpor/proto/scheduler";
import { type Address, openClient, serve } from "./mod.ts";

async function withAddress(work: (address: Address & { transport: "unix" }) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  await work({ transport: "unix", path: join(directory, "s.sock") });
  await Deno.remove(directory, { recursive: true });
}

Deno.test("messages of all lengths arrive both ways", async () => {
  await withAddress(async (listen) => {
    await using service = await serve({
      listen,
      routes: (router) =>
        router.service(SchedulerService, { place: ({ sandboxId }) => ({ hostId: "", address: sandboxId }) }),
    });
    using client = openClient(SchedulerService, { address: service.address });
    // Around what is read at once, and what is not.
    for (const length of [0, 1, 65_536, 1_048_560, 1_048_576, 3_000_000]) {
      const text = "x".repeat(length);
      assertEquals((await client.place({ sandboxId: text })).address === text, true, String(length));
    }
  });
});

Deno.test("an answer that stops in the middle ends with the deadline", async () => {
  await withAddress(async (listen) => {
    const listener = Deno.listen(listen);
    const half = "HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\ncontent-length: 10\r\n\r\n12345";
    const served = (async () => {
      using connection = await listener.accept();
      await connection.read(new Uint8Array(4096));
      await connection.write(new TextEncoder().encode(half));
      // Until the client leaves.
      while (await connection.read(new Uint8Array(4096)).catch(() => null) !== null);
    })();
    {
      using client = openClient(SchedulerService, { address: listen });
      const thrown = await assertRejects(() => client.place({ sandboxId: "x" }, { timeoutMs: 100 }), TorporError);
      assertEquals(thrown.code, "deadline_exceeded");
    }
    await served;
    listener.close();
  });
});
