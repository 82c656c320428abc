import { assertEquals, assertGreater, assertRejects } from "@std/assert";
import { newId } from "@torpor/ids";
import { eventually, startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";
import { Sibling } from "../../../services/hostagent/memory/sibling.ts";

/** What a pager's control socket answers to one command. */
async function ask(path: string, command: string): Promise<Record<string, unknown>> {
  using socket = await Deno.connect({ transport: "unix", path });
  await socket.write(new TextEncoder().encode(`${command}\n`));
  await socket.closeWrite();
  return JSON.parse(await new Response(socket.readable).text());
}

function pagerOf(host: TestHostAgent, id: string) {
  return host.agent.manager.get(id).vm!.pager!;
}

Deno.test("the pager of a resumed sandbox answers questions, and fetches what it is told to", async () => {
  await using host = await startTestHostAgent({ overrides: { prefetch: false } });
  const id = await host.create();
  await host.run(id, "head -c 20000000 /dev/urandom > /dev/shm/data");
  await host.client.pauseSandbox({ sandboxId: id });
  await host.client.resumeSandbox({ sandboxId: id });
  const { pagerSocket } = host.layout.sandbox(id);
  assertEquals((await Deno.stat(pagerSocket)).mode! & 0o777, 0o600);
  const before = await ask(pagerSocket, "stats");
  assertEquals(before.kind, "sandbox");
  assertEquals(before.state, "serving");
  assertEquals(before.pid, pagerOf(host, id).process.pid);
  assertGreater(before.faults, 0);
  assertEquals(before.prefetched_pages, 0);
  const pages = Number(before.page_count);
  assertEquals(await ask(pagerSocket, `prefetch 0 ${pages}`), { queued: pages });
  assertEquals(await ask(pagerSocket, `prefetch 0 ${pages + 1}`), { error: "out_of_range" });
  await eventually(
    async () => Number((await ask(pagerSocket, "stats")).prefetched_pages) > 5000 || undefined,
    "pages that were fetched ahead",
  );
  await host.run(id, "md5sum /dev/shm/data");
  const after = await ask(pagerSocket, "stats");
  assertEquals(after.data_faults, Number(after.faults) - Number(after.zero_faults));
  await host.client.pauseSandbox({ sandboxId: id });
  await assertRejects(() => Deno.stat(pagerSocket), Deno.errors.NotFound);
});

Deno.test("a killed pager's successor answers in its place", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  await host.client.pauseSandbox({ sandboxId: id });
  await host.client.resumeSandbox({ sandboxId: id });
  const { pagerSocket } = host.layout.sandbox(id);
  const dead = pagerOf(host, id);
  dead.process.signal(9);
  await eventually(() => Promise.resolve(pagerOf(host, id) !== dead || undefined), "a successor");
  const stats = await eventually(() => ask(pagerSocket, "stats").catch(() => undefined), "an answer");
  assertEquals(stats.pid, pagerOf(host, id).process.pid);
  assertEquals(stats.adoptions, 1);
  await host.run(id, "true");
});

Deno.test("the base pager of siblings answers for all of them", async () => {
  await using host = await startTestHostAgent();
  const source = await host.create();
  const snapshotId = newId();
  await host.client.createSnapshot({ sandboxId: source, snapshotId, keepSandbox: false });
  const spawned = [1, 2].map(() => host.client.createSandbox({ sandboxId: newId(), snapshotId }));
  const ids = (await Promise.all(spawned)).map(({ sandboxId }) => sandboxId);
  const { base } = pagerOf(host, ids[0]!) as Sibling;
  const socket = host.layout.baseSocket(base.mark!);
  const stats = await ask(socket, "stats");
  assertEquals(stats.kind, "base");
  assertEquals(stats.siblings, 2);
  assertEquals(stats.pid, base.stats().pid);
  await ask(socket, `prefetch 0 ${stats.page_count}`);
  const pages = Number(stats.data_pages_served) + Number(stats.prefetched_pages);
  await eventually(
    async () => Number((await ask(socket, "stats")).prefetched_pages) > pages || undefined,
    "pages that were fetched ahead",
  );
  for (const id of ids) await host.client.destroySandbox({ sandboxId: id });
  base.process.signal(15);
  await base.process.exited;
  await assertRejects(() => Deno.stat(socket), Deno.errors.NotFound);
});
