import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { ControlClient } from "./control_client.ts";
import { ControlServer } from "./control_server.ts";
import { LoopbackProxy } from "./testing/loopback.ts";

Deno.test("a process that no agent talks to ends once it is not needed", async () => {
  const directory = await Deno.makeTempDir({ prefix: "egress-" });
  const path = join(directory, "control.sock");
  await using egress = await LoopbackProxy.start({});
  let needed = true;
  const looked = Promise.withResolvers<void>();
  const isNeeded = () => {
    looked.resolve();
    return needed;
  };
  const server = new ControlServer("print", () => egress.proxy, isNeeded, 100);
  let ended = false;
  const serving = server.serve(Deno.listen({ transport: "unix", path })).then(() => ended = true);
  {
    await using client = await ControlClient.connect(path);
    const { fingerprint, slotAddresses } = await client.hello();
    assertEquals([fingerprint, slotAddresses], ["print", []]);
    const { hostAddress, slotAddress } = egress.slot;
    await client.call({ call: "set_rules", slot: { hostAddress, slotAddress }, domains: ["example.com"] });
    assertEquals(egress.proxy.slotAddresses, [slotAddress]);
  }
  // The agent has gone; the slot's address is there.
  await looked.promise;
  assertEquals(ended, false);
  needed = false;
  await serving;
  await Deno.remove(directory, { recursive: true });
});

Deno.test("a new agent takes the place of the one before", async () => {
  const directory = await Deno.makeTempDir({ prefix: "egress-" });
  const path = join(directory, "control.sock");
  await using egress = await LoopbackProxy.start({});
  const server = new ControlServer("print", () => egress.proxy, () => true);
  const serving = server.serve(Deno.listen({ transport: "unix", path }));
  await using first = await ControlClient.connect(path);
  await first.hello();
  await using second = await ControlClient.connect(path);
  await second.hello();
  await first.ended;
  const stats = await second.call({ call: "stats" });
  assertEquals(stats, { message: "stats", id: 1, slots: 0, connections: 0, outcomes: {} });
  const failed = await second.call({ call: "set_rules", slot: egress.slot, domains: ["not a domain"] });
  assertEquals(failed.message, "failed");
  await second.call({ call: "end" });
  await serving;
  await Deno.remove(directory, { recursive: true });
});
