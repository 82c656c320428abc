/** Snapshots, spawns and forks with the real services and real virtual machines, as a client sees them. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { startAllServices } from "../all_services.ts";
import type { Json } from "./harness.ts";

Deno.test("snapshots and forks through all services, with real virtual machines", async (t) => {
  await using all = await startAllServices();
  const { call, host } = all;
  const run = (id: string, command: string) => host.run(id, command);
  const source = (await call("POST", "/v1/sandboxes", { memory_mb: 160, disk_size_mb: 256 })).sandbox_id;
  await run(source, "head -c 5000000 /dev/urandom > /dev/shm/data; echo one > /root/mark; sync");
  const checksum = await run(source, "md5sum /dev/shm/data");

  await t.step("a named snapshot of a running sandbox, which goes on", async () => {
    const taken = await call("POST", "/v1/snapshots", { sandbox_id: source, name: "prepared" });
    assertEquals([taken.state, taken.memory_mb], ["ready", 160]);
    assert(taken.sizes.stopped_us > 0 && taken.sizes.size_bytes > 5_000_000, JSON.stringify(taken.sizes));
    assertEquals((await call("GET", `/v1/sandboxes/${source}`)).state, "running");
    assertEquals(await run(source, "md5sum /dev/shm/data"), checksum);
    const contents = await call("GET", "/v1/snapshots/prepared/contents");
    const live = contents.memory.sources.reduce((sum: number, one: Json) => sum + one.live_bytes, 0);
    assert(live > 5_000_000 && contents.memory.size_bytes === 160 * 2 ** 20, JSON.stringify(contents.memory));
    assert(!JSON.stringify(contents).includes(host.layout.home), "no path of the host");
    assertEquals(contents.verified, []);
    const { verified } = await call("GET", "/v1/snapshots/prepared/contents?verify=true");
    assert(verified.length >= 2 && !verified.some(({ verdict }: Json) => ["damaged", "missing"].includes(verdict)));
    const [memory] = verified.filter(({ file }: Json) => file === "memory.data");
    assert(memory.verdict === "good" && memory.bytes > 5_000_000, JSON.stringify(verified));
  });

  await t.step("a snapshot whose time is over goes, on its host too", async () => {
    const short = await call("POST", `/v1/sandboxes/${source}/checkpoint`, { expires_in_sec: 1 });
    const isKept = async () =>
      (await host.client.listSnapshots({})).snapshots.some(({ snapshot }) =>
        snapshot?.snapshotId === short.snapshot_id
      );
    assertEquals(await isKept(), true);
    const expired: string[] = [];
    while (expired.length === 0) expired.push(...await all.repairs());
    assertEquals([expired, await isKept()], [["snapshot_expired "], false]);
    assert(Date.now() >= Date.parse(short.expires_at));
  });

  let spawned = "";
  await t.step("a sandbox spawned from it has the same bytes, and another identity", async () => {
    await run(source, "echo two > /root/mark; sync");
    const sandbox = await call("POST", "/v1/sandboxes", { snapshot: "prepared", metadata: { from: "prepared" } });
    spawned = sandbox.sandbox_id;
    assertEquals([sandbox.state, sandbox.memory_mb, sandbox.disk_size_mb], ["running", 160, 256]);
    assertEquals(await run(spawned, "md5sum /dev/shm/data"), checksum);
    assertEquals([await run(spawned, "cat /root/mark"), await run(source, "cat /root/mark")], ["one", "two"]);
    assertNotEquals(await run(spawned, "hostname"), await run(source, "hostname"));
  });

  await t.step("the snapshot is deleted; what was spawned pauses and resumes without it", async () => {
    await call("DELETE", "/v1/snapshots/prepared");
    assertEquals((await host.client.listSnapshots({})).snapshots, []);
    const paused = await call("POST", `/v1/sandboxes/${spawned}/pause`, { reclaim: { sync_ms: 5000 } });
    assertEquals([paused.state, paused.snapshot.generation], ["paused", 1]);
    assert(
      paused.hooks.some((hook: Json) => hook.step === "sync" && hook.outcome === "ok"),
      JSON.stringify(paused.hooks),
    );
    assertEquals((await call("GET", `/v1/sandboxes/${spawned}/snapshot`)).generations[0].committed, true);
    await call("POST", `/v1/sandboxes/${spawned}/resume`);
    assertEquals(await run(spawned, "md5sum /dev/shm/data"), checksum);
  });

  await t.step(
    "a fork of a running sandbox: all have its bytes, nobody sees another's, nothing else is left",
    async () => {
      const { children, stopped_us } = await call("POST", `/v1/sandboxes/${source}/fork`, { count: 2 });
      const ids: string[] = children.map((child: Json) => child.sandbox_id);
      assert(stopped_us > 0);
      await Promise.all(ids.map((id) => run(id, `echo ${id} > /root/mark`)));
      for (const id of ids) assertEquals(await run(id, "cat /root/mark; md5sum /dev/shm/data"), `${id}\n${checksum}`);
      assertEquals(await run(source, "cat /root/mark"), "two");
      assertEquals((await host.client.listSnapshots({})).snapshots, []);
      for (const id of ids) await call("DELETE", `/v1/sandboxes/${id}`);
    },
  );

  await t.step("a checkpoint of a paused sandbox leaves it paused, and is spawned from", async () => {
    await call("POST", `/v1/sandboxes/${source}/pause`);
    const checkpoint = await call("POST", `/v1/sandboxes/${source}/checkpoint`);
    assertEquals([checkpoint.kind, checkpoint.sizes.stopped_us], ["checkpoint", 0]);
    assertEquals((await call("GET", `/v1/sandboxes/${source}`)).state, "paused");
    assertEquals(await all.repairs(), [], "all of it as the database has it");
    const child = (await call("POST", "/v1/sandboxes", { snapshot: checkpoint.name })).sandbox_id;
    assertEquals(await run(child, "cat /root/mark; md5sum /dev/shm/data"), `two\n${checksum}`);
    for (const id of [child, source, spawned]) await call("DELETE", `/v1/sandboxes/${id}`);
    await call("DELETE", `/v1/snapshots/${checkpoint.name}`);
  });

  await t.step("the reconciler finds nothing to do, and the host keeps nothing", async () => {
    assertEquals(await all.repairs(), []);
    assertEquals((await host.client.listSandboxes({})).sandboxes, []);
    assertEquals([...Deno.readDirSync(host.layout.snapshots)].map(({ name }) => name), []);
  });
});
