import { assert, assertEquals, assertRejects } from "@std/assert";
import { newId } from "@torpor/ids";
import { openTestDatabase, type TestDatabase } from "@torpor/testing/postgres";
import {
  compareAndSetState,
  countSandboxesByState,
  databaseTime,
  getSandbox,
  insertOperation,
  insertSandbox,
  listSandboxes,
  type SandboxSpec,
  touchSandboxes,
  upsertHost,
  violates,
} from "./mod.ts";

const SPEC: SandboxSpec = {
  template: "base",
  vcpus: 2,
  memoryMb: 512,
  diskSizeMb: 5120,
  timeoutSec: 60,
  autoDeleteAfterSec: 0,
  ttlSec: 0,
  onTtl: "pause",
  env: { PATH_LIKE: "snake_case stays" },
  metadata: { owner_name: "a", "ünïcode": "✓" },
  sourceSnapshotId: null,
  reclaim: { fstrimMs: 1, syncMs: 2, dropCachesMs: 0, compactMemoryMs: 0 },
};

async function insertPending(test: TestDatabase, metadata = SPEC.metadata) {
  const [id, operationId] = [newId(), newId()];
  return await test.database.transaction("test", async (sql) => {
    const spec = { ...SPEC, metadata };
    const row = await insertSandbox(sql, { id, teamId: "default", operationId, deadlineMs: 1000, spec });
    await insertOperation(sql, {
      id: operationId,
      sandboxId: id,
      kind: "create",
      hostId: null,
      version: row.version,
      owner: 1n,
      traceparent: "",
      deadlineMs: 1000,
    });
    return row;
  });
}

async function insertHost(test: TestDatabase): Promise<string> {
  const id = newId();
  const host = { id, name: "h", address: "unix:/h", capabilities: [], labels: {}, agentVersion: "" };
  await upsertHost(test.database.sql, { ...host, vcpus: 1, memoryMb: 1n, diskMb: 1n });
  return id;
}

Deno.test("a row comes back as it was written, and only to its team", async () => {
  await using test = await openTestDatabase();
  const row = await insertPending(test);
  assertEquals(await getSandbox(test.database.sql, "default", row.id), row);
  assertEquals(await getSandbox(test.database.sql, "other", row.id), undefined);
  assertEquals([row.state, row.version, row.env, row.metadata, row.snapshot], [
    "pending",
    1n,
    SPEC.env,
    SPEC.metadata,
    null,
  ]);
});

Deno.test("of concurrent compare-and-sets on one version exactly one wins", async () => {
  await using test = await openTestDatabase();
  const row = await insertPending(test);
  const results = await Promise.all(
    Array.from(
      { length: 20 },
      (_, index) => compareAndSetState(test.database.sql, row, "failed", { reason: `r${index}` }),
    ),
  );
  const winners = results.filter((result) => result !== undefined);
  assertEquals(winners.length, 1);
  assertEquals(await getSandbox(test.database.sql, "default", row.id), winners[0]);
  assertEquals(winners[0]!.version, 2n);
});

Deno.test("the table refuses rows that the lifecycle must never write", async () => {
  await using test = await openTestDatabase();
  const hostId = await insertHost(test);
  const cases: [string, Parameters<typeof compareAndSetState>[2], Parameters<typeof compareAndSetState>[3]][] = [
    ["sandbox_transition_has_operation", "starting", { hostId }],
    ["sandbox_transition_has_operation", "deleting", { hostId }],
    ["sandbox_transition_has_operation", "running", { hostId, deadlineMs: 1 }],
    ["sandbox_has_host", "starting", { deadlineMs: 1 }],
    ["sandbox_has_host", "running", {}],
    ["sandbox_paused_has_snapshot", "paused", { hostId }],
    ["sandbox_failed_has_reason", "failed", {}],
    ["sandbox_state_known", "asleep" as "paused", { hostId }],
  ];
  for (const [constraint, state, changes] of cases) {
    const row = await insertPending(test);
    const error = await assertRejects(() => compareAndSetState(test.database.sql, row, state, changes));
    assertEquals([violates(error, constraint), state], [true, state]);
  }
});

Deno.test("one operation at a time holds a sandbox", async () => {
  await using test = await openTestDatabase();
  const row = await insertPending(test);
  const error = await assertRejects(() =>
    insertOperation(test.database.sql, {
      id: newId(),
      sandboxId: row.id,
      kind: "pause",
      hostId: null,
      version: 1n,
      owner: null,
      traceparent: "",
      deadlineMs: 1,
    })
  );
  assertEquals(violates(error, "operations_running"), true);
});

Deno.test("keyset pages show each row once, newest first, while others are created", async () => {
  await using test = await openTestDatabase();
  const rows = [];
  for (let i = 0; i < 7; i++) rows.push(await insertPending(test));
  // Equal times: the id decides.
  await test.database.sql`update sandboxes set created_at = '2026-01-01' where id = any(${
    rows.slice(0, 4).map((row) => row.id)
  })`;
  const seen: string[] = [];
  let cursor = "";
  do {
    const page = await listSandboxes(test.database.sql, "default", { limit: 2, cursor });
    seen.push(...page.sandboxes.map((row) => row.id));
    cursor = page.nextCursor;
    if (seen.length === 2) rows.push(await insertPending(test));
  } while (cursor !== "");
  assertEquals(seen.length, 7);
  assertEquals(new Set(seen).size, 7);
  for (const odd of ["x", "%", btoa("1.x"), btoa(`nan.${newId()}`), btoa(`1e99.${newId()}`)]) {
    await assertRejects(() => listSandboxes(test.database.sql, "default", { cursor: odd }), Error, "cursor");
  }
});

Deno.test("lists filter by state and by metadata; deleted ones only on request", async () => {
  await using test = await openTestDatabase();
  const [a, b, c] = [
    await insertPending(test, { k: "a", x: "1" }),
    await insertPending(test, { k: "b" }),
    await insertPending(test),
  ];
  await compareAndSetState(test.database.sql, c!, "deleted", {});
  const ids = async (filter: Parameters<typeof listSandboxes>[2]) =>
    (await listSandboxes(test.database.sql, "default", filter)).sandboxes.map((row) => row.id).sort();
  assertEquals(await ids({}), [a!.id, b!.id].sort());
  assertEquals(await ids({ metadata: { k: "a" } }), [a!.id]);
  assertEquals(await ids({ metadata: { k: "a", x: "2" } }), []);
  assertEquals(await ids({ states: ["deleted"] }), [c!.id]);
  assertEquals(await countSandboxesByState(test.database.sql), { pending: 2 });
});

Deno.test("activity moves forward only, and never beyond now", async () => {
  await using test = await openTestDatabase();
  const row = await insertPending(test);
  const activeAt = async () => (await getSandbox(test.database.sql, "default", row.id))!.lastActiveAt;
  await test.database.sql`update sandboxes set last_active_at = now() - interval '1 hour'`;
  const { sql } = test.database;
  await touchSandboxes(sql, new Map([[row.id, 1_800_000], [newId(), 1_800_000]]));
  const agoMs = (await databaseTime(sql)).getTime() - (await activeAt()).getTime();
  assert(agoMs >= 1_800_000 && agoMs < 1_900_000, `${agoMs} ms`);
  const later = await activeAt();
  await touchSandboxes(sql, new Map([[row.id, 2 * 3_600_000]]));
  await touchSandboxes(sql, new Map([[row.id, 1_700_000]]), 1_000_000);
  assertEquals(await activeAt(), later);
  await touchSandboxes(sql, new Map([[row.id, -3_600_000]]));
  assert((await activeAt()).getTime() <= (await databaseTime(sql)).getTime());
});
