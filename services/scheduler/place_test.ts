import type { MessageInitShape } from "@bufbuild/protobuf";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { hostState, listHosts, setHostUnreachable } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { type PlaceRequestSchema, SchedulerService } from "@torpor/proto/scheduler";
import { openClient } from "@torpor/rpc";
import { openTestDatabase, type TestDatabase } from "@torpor/testing/postgres";
import { DEFAULT_POLICY, startScheduler } from "./start.ts";

const TOKEN = "t";

async function startTestScheduler(test: TestDatabase, policy = DEFAULT_POLICY) {
  await using stack = new AsyncDisposableStack();
  const service = stack.use(
    await startScheduler({
      listen: { transport: "tcp", hostname: "127.0.0.1", port: 0 },
      token: TOKEN,
      databaseUrl: test.url,
      heartbeatIntervalMs: 1234,
      policy,
    }),
  );
  const client = stack.use(openClient(SchedulerService, { address: service.address, token: TOKEN, timeoutMs: 60_000 }));
  const resources = stack.move();
  return { client, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

type Client = Awaited<ReturnType<typeof startTestScheduler>>["client"];

async function register(client: Client, name: string, capacity = { vcpus: 2, memoryMb: 1024n, diskMb: 10_000n }) {
  const hostId = newId();
  await client.registerHost({ hostId, name, address: `unix:/${name}`, capacity, capabilities: [name] });
  return hostId;
}

const SMALL = { vcpus: 1, memoryMb: 128n, diskMb: 10n };

Deno.test("200 concurrent placements on the last slots over-commit nothing", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test);
  const { client } = scheduler;
  // 8 + 8 slots by memory, and 3 by vCPUs at an over-commit of 8 for vCPUs of 4 each.
  await register(client, "a");
  await register(client, "b");
  await register(client, "c", { vcpus: 3, memoryMb: 100_000n, diskMb: 100_000n });
  const placements = await Promise.allSettled(
    Array.from({ length: 200 }, (_, index) => {
      const resources = index % 2 ? SMALL : { ...SMALL, vcpus: 8 };
      return client.place({ sandboxId: newId(), resources });
    }),
  );
  const refused = placements.filter((one) => one.status === "rejected");
  for (const { reason } of refused) assertEquals((reason as TorporError).code, "no_capacity");
  const hosts = await listHosts(test.database.sql);
  for (const host of hosts) {
    assert(host.reservedVcpus <= host.vcpus * 8, `${host.name}: ${host.reservedVcpus} vCPUs`);
    assert(host.reservedMemoryMb <= host.memoryMb, `${host.name}: ${host.reservedMemoryMb} MB`);
    const [sums] = await test.database.sql`
      select coalesce(sum(vcpus), 0)::int8 as vcpus, coalesce(sum(memory_mb), 0)::int8 as memory_mb,
        coalesce(sum(disk_mb), 0)::int8 as disk_mb
      from reservations where host_id = ${host.id}`;
    assertEquals(
      [sums!.vcpus, sums!.memoryMb, sums!.diskMb],
      [host.reservedVcpus, host.reservedMemoryMb, host.reservedDiskMb],
    );
  }
  // Refused only because nothing of that size was left: one vCPU more fits nowhere.
  assert(
    hosts.every((host) => host.reservedVcpus > host.vcpus * 8 - 8 || host.reservedMemoryMb > host.memoryMb - 128n),
  );
  assertEquals(placements.length - refused.length, (await test.database.sql`select from reservations`).length);
});

Deno.test("the last slots are all given out, however many ask at once", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test);
  await register(scheduler.client, "only", { vcpus: 100, memoryMb: 1280n, diskMb: 10_000n });
  const placements = await Promise.allSettled(
    Array.from({ length: 200 }, () => scheduler.client.place({ sandboxId: newId(), resources: SMALL })),
  );
  assertEquals(placements.filter((one) => one.status === "fulfilled").length, 10);
});

Deno.test("placements spread to the host with the most free memory", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test);
  const [a, b] = [await register(scheduler.client, "a"), await register(scheduler.client, "b")];
  const chosen: string[] = [];
  for (let i = 0; i < 6; i++) {
    chosen.push((await scheduler.client.place({ sandboxId: newId(), resources: SMALL })).hostId);
  }
  assertEquals([chosen.filter((id) => id === a).length, chosen.filter((id) => id === b).length], [3, 3]);
});

Deno.test("the same sandbox keeps its placement, also when asked for at the same time", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test);
  await register(scheduler.client, "a");
  await register(scheduler.client, "b");
  const sandboxId = newId();
  const first = await scheduler.client.place({ sandboxId, resources: SMALL });
  const again = await Promise.all(
    Array.from({ length: 10 }, () => scheduler.client.place({ sandboxId, resources: SMALL })),
  );
  for (const one of again) assertEquals(one, first);
  assertEquals((await test.database.sql`select from reservations`).length, 1);
  await scheduler.client.release({ sandboxId });
  await scheduler.client.release({ sandboxId });
  assertEquals((await listHosts(test.database.sql)).map((host) => host.reservedMemoryMb), [0n, 0n]);
});

Deno.test("what a sandbox holds already counts as free for itself", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test);
  const hostId = await register(scheduler.client, "a");
  const sandboxId = newId();
  await scheduler.client.place({ sandboxId, resources: { ...SMALL, memoryMb: 1000n } });
  const grown = { sandboxId, resources: { ...SMALL, memoryMb: 1024n }, eligibleHostIds: [hostId] };
  assertEquals((await scheduler.client.place(grown)).hostId, hostId);
});

Deno.test("a host whose disk is full gets nothing new, and keeps what has its disk there", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test);
  const { client } = scheduler;
  const hostId = await register(client, "a");
  const [there, fresh] = [newId(), newId()];
  await client.place({ sandboxId: there, resources: SMALL });
  await test.database.sql`update reservations set vcpus = 0, memory_mb = 0 where sandbox_id = ${there}`;
  await client.heartbeat({ hostId, diskFull: true });
  assertEquals((await client.listHosts({})).hosts.map(({ diskFull }) => diskFull), [true]);
  const refused = await assertRejects(() => client.place({ sandboxId: fresh, resources: SMALL }), TorporError);
  assertEquals([refused.code, refused.message.includes("a: its disk is full")], ["no_capacity", true]);
  await assertRejects(() => client.placeGroup({ sandboxIds: [fresh], resources: SMALL }), TorporError);
  assertEquals((await client.place({ sandboxId: there, resources: SMALL })).hostId, hostId);
  await client.heartbeat({ hostId });
  assertEquals((await client.place({ sandboxId: fresh, resources: SMALL })).hostId, hostId);
});

Deno.test("only ready, eligible and capable hosts; the refusal says why not for each", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test);
  const { client } = scheduler;
  const place = (request: Omit<MessageInitShape<typeof PlaceRequestSchema>, "$typeName" | "$unknown"> = {}) =>
    client.place({ sandboxId: newId(), resources: SMALL, ...request });
  const refusal = async (request: Parameters<typeof place>[0] = {}, code = "no_capacity") => {
    const error = await assertRejects(() => place(request), TorporError);
    assertEquals(error.code, code);
    return error.message;
  };
  assertEquals(await refusal(), "no host has room: no host is registered");
  const [a, b] = [await register(client, "a"), await register(client, "b")];
  assertEquals((await place({ requiredCapabilities: ["b"] })).hostId, b);
  assertEquals((await place({ eligibleHostIds: [a] })).hostId, a);
  assert((await refusal({ requiredCapabilities: ["a", "b"] })).includes("a: lacks b; b: lacks a"));
  assert((await refusal({ eligibleHostIds: [newId()] }, "host_unreachable")).includes("is not registered"));
  const full = await refusal({ eligibleHostIds: [a], resources: { ...SMALL, memoryMb: 5000n } });
  assert(full.startsWith("the host that holds the snapshot has no room: a: "), full);
  assert((await refusal({ resources: { ...SMALL, memoryMb: 5000n } })).includes("896 of 5000 MB memory"));
  await test.database.sql`update hosts set last_heartbeat_at = now() - interval '20 seconds' where id = ${a}`;
  await test.database.sql`update hosts set draining = true where id = ${b}`;
  const message = await refusal();
  assert(/a: not heard for 2\d s; b: is cordoned/.test(message), message);
  assert(/away: a: not heard for 2\d s/.test(await refusal({ eligibleHostIds: [a] }, "host_unreachable")));
  await client.heartbeat({ hostId: a });
  assertEquals((await place()).hostId, a);
  await setHostUnreachable(test.database.sql, a, true);
  assertEquals(hostState((await listHosts(test.database.sql))[0]!), "unreachable");
  await refusal();
});

Deno.test("a reservation that was never used is given to the next who asks", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test);
  await register(scheduler.client, "a", { vcpus: 1, memoryMb: 128n, diskMb: 10n });
  await scheduler.client.place({ sandboxId: newId(), resources: SMALL });
  await assertRejects(() => scheduler.client.place({ sandboxId: newId(), resources: SMALL }), TorporError);
  await test.database.sql`update reservations set expires_at = now() - interval '1 second'`;
  const sandboxId = newId();
  await scheduler.client.place({ sandboxId, resources: SMALL });
  const rows = await test.database.sql`select sandbox_id from reservations`;
  assertEquals(rows.map((row) => row.sandboxId), [sandboxId]);
});

Deno.test("a group is placed on one host, all or none", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test);
  const { client } = scheduler;
  const [a, b] = [await register(client, "a"), await register(client, "b")];
  const ids = (count: number) => Array.from({ length: count }, newId);
  const group = ids(6);
  // 8 fit on each host, 12 on both together.
  const [first, second] = await Promise.all(
    [group, ids(6)].map((sandboxIds) => client.placeGroup({ sandboxIds, resources: SMALL })),
  );
  assertEquals(new Set([first!.hostId, second!.hostId]), new Set([a, b]));
  const error = await assertRejects(() => client.placeGroup({ sandboxIds: ids(3), resources: SMALL }), TorporError);
  assertEquals([error.code, error.message.includes("256 of 384 MB memory")], ["no_capacity", true], error.message);
  const reservations = await test.database.sql`select from reservations`;
  assertEquals(reservations.length, 12);
  // Each is placed where its room is, and a repeat takes no more.
  assertEquals((await client.placeGroup({ sandboxIds: group, resources: SMALL })).hostId, first!.hostId);
  for (const sandboxId of group) {
    assertEquals((await client.place({ sandboxId, resources: SMALL })).hostId, first!.hostId);
  }
  const hosts = await listHosts(test.database.sql);
  assertEquals(hosts.map((host) => host.reservedMemoryMb), [768n, 768n]);
  for (
    const [request, field] of [
      [{ sandboxIds: [] }, "sandbox_ids"],
      [{ sandboxIds: ids(33) }, "sandbox_ids"],
      [
        { sandboxIds: [a, a] },
        "sandbox_ids",
      ],
      [{ sandboxIds: ["x"] }, "sandbox_ids"],
      [{ sandboxIds: ids(1), holdMs: -1 }, "hold_ms"],
    ] as const
  ) {
    const invalid = await assertRejects(
      () => client.placeGroup({ ...request, sandboxIds: [...request.sandboxIds], resources: SMALL }),
      TorporError,
    );
    assertEquals([invalid.code, invalid.field], ["invalid_argument", field]);
  }
});

Deno.test("hosts register, renew and are listed; an unknown one has to register", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test);
  const { client } = scheduler;
  const hostId = newId();
  const unknown = await assertRejects(() => client.heartbeat({ hostId }), TorporError);
  assertEquals(unknown.code, "host_not_found");
  const host = { hostId, name: "h", address: "unix:/h", capacity: { vcpus: 2, memoryMb: 9n, diskMb: 9n } };
  assertEquals((await client.registerHost(host)).heartbeatIntervalMs, 1234);
  await client.registerHost({ ...host, address: "http://h:1", labels: { zone: "a" } });
  await client.heartbeat({
    hostId,
    capacity: { vcpus: 4, memoryMb: 8n, diskMb: 7n },
    runningSandboxes: 3,
    pausedSandboxes: 5,
  });
  const [listed] = (await client.listHosts({})).hosts;
  assertEquals([listed!.state, listed!.address, listed!.runningSandboxes, listed!.pausedSandboxes], [
    "ready",
    "http://h:1",
    3,
    5,
  ]);
  assertEquals([listed!.capacity!.vcpus, listed!.capacity!.memoryMb, listed!.capacity!.diskMb], [4, 8n, 7n]);
});

Deno.test("what is no host and no demand is refused with the field", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test);
  const { client } = scheduler;
  const capacity = { vcpus: 1, memoryMb: 1n, diskMb: 1n };
  const calls: [string, () => Promise<unknown>][] = [
    ["host_id", () => client.registerHost({ hostId: "../x", address: "unix:/x", capacity })],
    ["address", () => client.registerHost({ hostId: newId(), address: "ftp://x", capacity })],
    ["capacity", () => client.registerHost({ hostId: newId(), address: "unix:/x" })],
    [
      "capacity",
      () => client.registerHost({ hostId: newId(), address: "unix:/x", capacity: { ...capacity, vcpus: -1 } }),
    ],
    ["sandbox_id", () => client.place({ sandboxId: "", resources: SMALL })],
    ["resources", () => client.place({ sandboxId: newId() })],
    ["resources", () => client.place({ sandboxId: newId(), resources: { ...SMALL, memoryMb: -5n } })],
    ["eligible_host_ids", () => client.place({ sandboxId: newId(), resources: SMALL, eligibleHostIds: ["x"] })],
    ["sandbox_id", () => client.release({ sandboxId: "x" })],
  ];
  for (const [field, call] of calls) {
    const error = await assertRejects(call, TorporError);
    assertEquals([error.code, error.field], ["invalid_argument", field]);
  }
});

Deno.test("spread fills hosts evenly, pack one after the other; neither over-commits, and room that is freed is used", async () => {
  const order = async (strategy: "spread" | "pack") => {
    await using test = await openTestDatabase();
    await using scheduler = await startTestScheduler(test, { ...DEFAULT_POLICY, strategy });
    const { client } = scheduler;
    const names = new Map<string, string>();
    // Room for 2, 3 and 4 of them by memory.
    for (const [name, memoryMb] of [["two", 256n], ["three", 384n], ["four", 512n]] as const) {
      names.set(await register(client, name, { vcpus: 8, memoryMb, diskMb: 10_000n }), name);
    }
    const sandboxIds = Array.from({ length: 9 }, () => newId());
    const placed: string[] = [];
    for (const sandboxId of sandboxIds) {
      placed.push(names.get((await client.place({ sandboxId, resources: SMALL })).hostId)!);
    }
    const full = await assertRejects(() => client.place({ sandboxId: newId(), resources: SMALL }), TorporError);
    assertEquals(full.code, "no_capacity");
    await client.release({ sandboxId: sandboxIds[placed.indexOf("three")]! });
    assertEquals(names.get((await client.place({ sandboxId: newId(), resources: SMALL })).hostId), "three");
    return placed;
  };
  assertEquals(await order("pack"), ["two", "two", ...Array(3).fill("three"), ...Array(4).fill("four")]);
  const spread = await order("spread");
  // Always the most free: 4 · 3 3 · 2 2 2 · 1 1 1, whichever comes first among equals.
  const levels = [spread.slice(0, 1), spread.slice(1, 3), spread.slice(3, 6), spread.slice(6, 9)];
  const each = [["four"], ["four", "three"], ["four", "three", "two"], ["four", "three", "two"]];
  assertEquals(levels.map((level) => level.sort()), each);
});

Deno.test("pack takes the fullest host that has room for all that is asked", async () => {
  await using test = await openTestDatabase();
  await using scheduler = await startTestScheduler(test, { ...DEFAULT_POLICY, strategy: "pack" });
  const { client } = scheduler;
  const small = await register(client, "small", { vcpus: 1, memoryMb: 512n, diskMb: 10_000n });
  const big = await register(client, "big", { vcpus: 8, memoryMb: 4096n, diskMb: 20_000n });
  const place = async (resources: typeof SMALL) => (await client.place({ sandboxId: newId(), resources })).hostId;
  assertEquals(await place(SMALL), small);
  // Too many vCPUs, too much memory, too much disk for the rest of the small one.
  assertEquals(await place({ ...SMALL, vcpus: 8 }), big);
  assertEquals(await place({ ...SMALL, memoryMb: 512n }), big);
  assertEquals(await place({ ...SMALL, diskMb: 39_991n }), big);
  assertEquals(await place(SMALL), small);
});
