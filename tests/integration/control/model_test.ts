import { assert, assertEquals } from "@std/assert";
import { listKeptSnapshots, listSandboxes, lockSandbox, type SandboxRow, sandboxRows } from "@torpor/db";
import { asTorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { beginOperation, beginSnapshot, canTransition, isTransitional } from "@torpor/lifecycle";
import type { FakeMethod } from "@torpor/testing/fake_host";
import fc from "fast-check";
import { ControlPlane, SPEC, TEAM } from "./control_plane.ts";

// Random concurrent histories with a host that fails, lies and loses replies, VMs that die, agents that pause by
// themselves and services that vanish. Afterwards a few passes must bring everything to rest and into agreement.

const SANDBOXES = 3;

/** What a service can die in the middle of, and the state in which that leaves the sandbox. */
const TRANSITIONAL = { pause: "pausing", resume: "resuming", delete: "deleting", snapshot: "snapshotting" } as const;
type AbandonedVerb = keyof typeof TRANSITIONAL;

const sandbox = fc.nat({ max: SANDBOXES - 1 });
const method = fc.constantFrom<FakeMethod>(
  "createSandbox",
  "pauseSandbox",
  "resumeSandbox",
  "destroySandbox",
  "createSnapshot",
  "deleteSnapshot",
);
const code = fc.constantFrom("unavailable", "deadline_exceeded", "pause_failed", "no_space", "vm_gone");

const action = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant("create" as const) }) },
  {
    weight: 10,
    arbitrary: fc.record({ do: fc.constantFrom("pause" as const, "resume" as const, "delete" as const), sandbox }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("snapshot" as const), sandbox, name: fc.constantFrom("a", "b") }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("spawn" as const, "delete snapshot" as const, "snapshots expire" as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("fork" as const), sandbox, count: fc.integer({ min: 1, max: 3 }) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("inject" as const), method, code, afterWork: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("vm dies" as const, "agent pauses" as const), sandbox }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("service dies" as const),
      verb: fc.constantFrom("pause", "resume", "delete", "snapshot"),
      sandbox,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("reconcile" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom("host vanishes" as const, "host falls silent" as const) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("host comes back" as const) }) },
);

type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

/** Groups run one after the other, the actions of a group at the same time. */
const history = fc.array(fc.array(action, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 10 });

Deno.test("any history comes to rest with the database and the host in agreement", async () => {
  await using plane = await ControlPlane.start({ vcpus: 1_000, memoryMb: 10_000_000n, diskMb: 10_000_000n });
  await using reconciler = await plane.startReconciler();
  await fc.assert(
    fc.asyncProperty(history, async (groups) => {
      await startOver(plane);
      const run = new Run(plane, () => reconciler.pass());
      await run.hostComesBack();
      for (let i = 0; i < SANDBOXES - 1; i++) await run.create();
      for (const group of groups) await run.actTogether(group);
      await run.rest();
      await run.check();
      await run.cleanUp();
    }),
    { numRuns: Number(Deno.env.get("MODEL_RUNS") ?? 25), endOnFailure: false },
  );
});

/** What a failed run has left behind must not spoil the shorter one that is tried next. */
async function startOver({ database, host }: ControlPlane): Promise<void> {
  host.reset();
  await database.sql`delete from reservations`;
  await database.sql`truncate sandboxes, snapshots cascade`;
}

class Run {
  #ids: string[] = [];
  #hostChanges: Promise<void> = Promise.resolve();

  constructor(private readonly plane: ControlPlane, private readonly pass: () => Promise<string[]>) {}

  /** Carries actions out at the same time, with passes meanwhile: some calls can only end through one. */
  async actTogether(actions: Action[]): Promise<void> {
    let ended = false;
    const acting = Promise.all(actions.map((one) => this.#act(one))).finally(() => ended = true);
    while (!ended) await Promise.race([acting, this.pass()]);
    await acting;
  }

  async #act(action: Action): Promise<void> {
    const { plane } = this;
    switch (action.do) {
      case "create":
        return await tolerate(this.create());
      case "inject":
        return plane.host.inject(action.method, { code: action.code as "no_space", afterWork: action.afterWork });
      case "spawn":
        return await tolerate(this.#spawn());
      case "delete snapshot":
        return await this.#deleteSnapshot();
      case "snapshots expire":
        return void await plane.database.sql`update snapshots set expires_at = now() where kind <> 'fork'`;
      case "reconcile":
        return void await this.pass();
      case "host vanishes":
        return await this.#changeHost(() => plane.host.vanish(), "0 s");
      case "host falls silent":
        return await this.#changeHost(() => plane.host.vanish(), "-1 hour");
      case "host comes back":
        return await this.hostComesBack();
    }
    const id = this.#ids[action.sandbox];
    if (id === undefined) return;
    switch (action.do) {
      case "pause":
        return await tolerate(plane.lifecycle.pauseSandbox(TEAM, id));
      case "resume":
        return await tolerate(plane.lifecycle.resumeSandbox(TEAM, id));
      case "delete":
        return await tolerate(plane.lifecycle.deleteSandbox(TEAM, id));
      case "snapshot":
        return await tolerate(this.#snapshot(id, action.name));
      case "fork":
        return await tolerate(this.#fork(id, action.count));
      case "vm dies":
        return this.#killVm(id);
      case "agent pauses":
        if (plane.host.sandboxes.get(id)?.status === "running") plane.host.pause(id);
        return;
      case "service dies":
        return await tolerate(this.#abandon(id, action.verb as AbandonedVerb));
    }
  }

  async #snapshot(sandboxId: string, name: string): Promise<void> {
    await (await this.plane.lifecycle.startSnapshot(TEAM, { sandboxId, name })).done;
  }

  async #spawn(): Promise<void> {
    const [snapshot] = (await listKeptSnapshots(this.plane.database.sql, TEAM)).snapshots;
    if (!snapshot) return;
    const spec = { ...SPEC, sourceSnapshotId: snapshot.id };
    const { sandbox, done } = await this.plane.lifecycle.startCreate(TEAM, spec);
    this.#ids.push(sandbox.id);
    await done;
  }

  async #deleteSnapshot(): Promise<void> {
    const [snapshot] = (await listKeptSnapshots(this.plane.database.sql, TEAM)).snapshots;
    if (snapshot) await this.plane.lifecycle.deleteSnapshot(snapshot.id);
  }

  /** A fork that is answered has all its children; whatever one that failed has made is found by {@linkcode check}. */
  async #fork(id: string, count: number): Promise<void> {
    const { children } = await this.plane.lifecycle.forkSandbox(TEAM, id, { count });
    assertEquals(children.length, count);
    this.#ids.push(...children.map((child) => child.id));
  }

  async create(): Promise<void> {
    const { sandbox, done } = await this.plane.lifecycle.startCreate(TEAM, SPEC);
    this.#ids.push(sandbox.id);
    await done;
  }

  /** A fake host sends no heartbeats: `heard` says when the last one shall have been. */
  #changeHost(change: () => Promise<void>, heard: string): Promise<void> {
    this.#hostChanges = this.#hostChanges.then(async () => {
      await change();
      await this.plane.database.sql`update hosts set last_heartbeat_at = now() + ${heard}::interval`;
    });
    return this.#hostChanges;
  }

  hostComesBack(): Promise<void> {
    return this.#changeHost(() => this.plane.host.listens ? Promise.resolve() : this.plane.host.comeBack(), "1 hour");
  }

  #killVm(id: string): void {
    const sandbox = this.plane.host.sandboxes.get(id);
    if (sandbox?.status !== "running") return;
    Object.assign(sandbox, { status: sandbox.snapshot ? "paused" : "failed", reason: "vm_gone" });
  }

  /** A service journals an operation and dies; half of the time the host was called before. */
  async #abandon(id: string, kind: AbandonedVerb): Promise<void> {
    const { database, hosts, host } = this.plane;
    const snapshotId = newId();
    const held = await database.transaction("test", async (sql) => {
      const row = (await lockSandbox(sql, TEAM, id))!;
      if (!canTransition(row.state, TRANSITIONAL[kind])) return undefined;
      const initiator = { owner: 42n };
      const snapshot = { id: snapshotId, name: snapshotId, kind: "checkpoint", platform: false } as const;
      if (kind === "snapshot") return await beginSnapshot(sql, row, snapshot, initiator);
      return await beginOperation(sql, row, kind, initiator);
    });
    if (!held || held.operation.id < "m") return;
    const request = { sandboxId: id, operationId: held.operation.id, version: held.operation.version };
    const client = hosts.at(host.address);
    if (kind === "pause") await client.pauseSandbox(request);
    if (kind === "resume") await client.resumeSandbox(request);
    if (kind === "delete") await client.destroySandbox(request);
    if (kind === "snapshot") await client.createSnapshot({ ...request, snapshotId, keepSandbox: true });
  }

  async rest(): Promise<void> {
    await this.hostComesBack();
    // A fault that is left over can undo one pass, so several may be needed; each of a handful of faults hits once.
    for (let quiet = 0, passes = 0; quiet < 2; passes++) {
      assert(passes < 40, `no rest: ${(await this.#rows()).map((row) => `${row.id} ${row.state}`).join(", ")}`);
      const repairs = await this.pass();
      const moving = (await this.#rows()).some((row) => isTransitional(row.state));
      const unsettled = await this.plane.database.sql`
        select from snapshots where state in ('creating', 'deleting')
        union all select from forks where state = 'running'`;
      quiet = repairs.length === 0 && !moving && unsettled.length === 0 ? quiet + 1 : 0;
    }
  }

  /** All of them: also the children of forks that failed. */
  async #rows(): Promise<SandboxRow[]> {
    return await sandboxRows("test", () => this.plane.database.sql`select * from sandboxes`);
  }

  async check(): Promise<void> {
    const { database, host } = this.plane;
    for (const row of await this.#rows()) {
      const there = host.sandboxes.get(row.id);
      const about = `${row.id} is ${row.state} (${row.reason}), the host says ${there?.status} (${there?.reason})`;
      if (row.state === "running") assertEquals(there?.status, "running", about);
      if (row.state === "paused") {
        assertEquals(there?.status, "paused", about);
        assertEquals(row.snapshot?.id, there?.snapshot?.snapshotId, about);
      }
      if (row.state === "deleted") assertEquals(there, undefined, about);
      if (row.state === "failed") assert(there?.status !== "running", about);
      assert(["running", "paused", "deleted", "failed"].includes(row.state), about);
    }
    assertEquals((await database.sql`select from operations where state = 'running'`).length, 0);
    const ready = await database.sql<{ id: string }[]>`select id from snapshots where state = 'ready'`;
    assertEquals(ready.map(({ id }) => id).sort(), [...host.kept.keys()].sort());
    assertEquals((await database.sql`select from snapshots where state = 'ready' and kind = 'fork'`).length, 0);
    const halves = await database.sql`
      select from forks where state = 'failed' and exists (
        select from sandboxes where id = any(child_ids) and state <> 'deleted')`;
    assertEquals(halves.length, 0, "a fork that failed has no children");
    const [sums] = await database.sql`
      select (select count(*) from sandboxes where state = 'running') as running, reserved_vcpus,
        (select coalesce(sum(vcpus), 0)::int8 from reservations) as summed_vcpus, reserved_memory_mb,
        (select coalesce(sum(memory_mb), 0)::int8 from reservations) as summed_memory_mb, stored_disk_mb,
        (select coalesce(sum(stored_mb(snapshots)), 0)::int8 from snapshots) as summed_stored_mb
      from hosts`;
    assertEquals(sums!.reservedVcpus, sums!.summedVcpus);
    assertEquals(sums!.reservedMemoryMb, sums!.summedMemoryMb);
    assertEquals(sums!.storedDiskMb, sums!.summedStoredMb);
    assertEquals(sums!.reservedVcpus, sums!.running);
  }

  /** Delete always succeeds: of every sandbox, in whatever state it came to rest. */
  async cleanUp(): Promise<void> {
    const { lifecycle, database } = this.plane;
    for (const { id } of await this.#rows()) await lifecycle.deleteSandbox(TEAM, id);
    for (const { id } of (await listKeptSnapshots(database.sql, TEAM)).snapshots) await lifecycle.deleteSnapshot(id);
    await this.rest();
    assertEquals((await listSandboxes(this.plane.database.sql, TEAM)).sandboxes, []);
    assertEquals([this.plane.host.sandboxes.size, this.plane.host.kept.size], [0, 0]);
  }
}

/** Refusals and failures are part of a history; bugs, whose code is never injected, are not. */
async function tolerate(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (thrown) {
    if (asTorporError(thrown).code === "internal") throw thrown;
  }
}
