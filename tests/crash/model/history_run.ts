import { assert, assertEquals } from "@std/assert";
import { listKeptSnapshots, listSandboxes, lockSandbox, type SandboxRow, sandboxRows } from "@torpor/db";
import { asTorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { beginOperation, beginSnapshot, canTransition, isTransitional, type Lifecycle } from "@torpor/lifecycle";
import type { FakeHost } from "@torpor/testing/fake_host";
import { SPEC, TEAM } from "../../integration/control/control_plane.ts";
import { ABANDONED, type AbandonedVerb, type Action } from "./action.ts";
import { assertAgreement } from "./agreement.ts";
import type { ModelPlane } from "./model_plane.ts";

/** A fault that is left over can undo one pass, so several may be needed; each of a handful of faults hits once. */
const MOST_PASSES = 40;

/** One history: carries its actions out, waits for rest, and looks whether everybody agrees. */
export class HistoryRun {
  #ids: string[] = [];
  #hostChanges: Promise<void> = Promise.resolve();

  constructor(private readonly plane: ModelPlane) {}

  /** Carries actions out at the same time, with passes meanwhile: some calls can only end through one. */
  async actTogether(actions: Action[]): Promise<void> {
    let ended = false;
    const acting = Promise.all(actions.map((one) => this.#act(one))).finally(() => ended = true);
    while (!ended) await Promise.race([acting, this.plane.pass()]);
    await acting;
  }

  async #act(action: Action): Promise<void> {
    const { plane } = this;
    switch (action.do) {
      case "create":
        return await tolerate(this.create(plane.lifecycles[action.by]!));
      case "inject": {
        const { method, code, afterWork } = action;
        return plane.hosts[action.host]!.inject(method, { code, afterWork });
      }
      case "call arrives again":
        return await tolerate(this.#callAgain(plane.hosts[action.host]!, action.call));
      case "spawn":
        return await tolerate(this.#spawn(plane.lifecycles[action.by]!));
      case "delete snapshot":
        return await this.#deleteSnapshot(plane.lifecycles[action.by]!);
      case "snapshots expire":
        return void await plane.database.sql`update snapshots set expires_at = now() where kind <> 'fork'`;
      case "reconcile":
        return void await plane.pass();
      case "agent restarts":
        return plane.hosts[action.host]!.restart();
      case "host vanishes":
        return await this.#changeHost(plane.hosts[action.host]!, (host) => host.vanish(), "0 s");
      case "host falls silent":
        return await this.#changeHost(plane.hosts[action.host]!, (host) => host.vanish(), "-1 hour");
      case "host comes back":
        return await this.#comeBack(plane.hosts[action.host]!);
    }
    const id = this.#ids[action.sandbox];
    if (id !== undefined) await this.#actOn(id, action);
  }

  async #actOn(id: string, action: Extract<Action, { sandbox: number }>): Promise<void> {
    const { plane } = this;
    switch (action.do) {
      case "pause":
        return await tolerate(plane.lifecycles[action.by]!.pauseSandbox(TEAM, id));
      case "resume":
        return await tolerate(plane.lifecycles[action.by]!.resumeSandbox(TEAM, id));
      case "delete":
        return await tolerate(plane.lifecycles[action.by]!.deleteSandbox(TEAM, id));
      case "snapshot":
        return await tolerate(this.#snapshot(plane.lifecycles[action.by]!, id, action.name));
      case "fork":
        return await tolerate(this.#fork(plane.lifecycles[action.by]!, id, action.count));
      case "vm dies":
        return this.#killVm(id);
      case "agent pauses":
        return this.#hostOf(id)?.pauseIfRunning(id);
      case "service dies":
        return await tolerate(this.#abandon(id, action.verb));
    }
  }

  #hostOf(sandboxId: string): FakeHost | undefined {
    return this.plane.hosts.find(({ sandboxes }) => sandboxes.has(sandboxId));
  }

  /** A network may deliver a call twice, and late. Of all that it does only the first time may count. */
  async #callAgain(host: FakeHost, index: number): Promise<void> {
    if (!host.listens || host.calls.length === 0) return;
    const { method, request } = host.calls[index % host.calls.length]!;
    // deno-lint-ignore no-explicit-any
    const client = this.plane.clientOf(host) as any;
    await client[method](request);
  }

  async #snapshot(lifecycle: Lifecycle, sandboxId: string, name: string): Promise<void> {
    await (await lifecycle.startSnapshot(TEAM, { sandboxId, name })).done;
  }

  async #spawn(lifecycle: Lifecycle): Promise<void> {
    const [snapshot] = (await listKeptSnapshots(this.plane.database.sql, TEAM)).snapshots;
    if (!snapshot) return;
    const { sandbox, done } = await lifecycle.startCreate(TEAM, { ...SPEC, sourceSnapshotId: snapshot.id });
    this.#ids.push(sandbox.id);
    await done;
  }

  async #deleteSnapshot(lifecycle: Lifecycle): Promise<void> {
    const [snapshot] = (await listKeptSnapshots(this.plane.database.sql, TEAM)).snapshots;
    if (snapshot) await lifecycle.deleteSnapshot(snapshot.id);
  }

  /** A fork that is answered has all its children; whatever one that failed has made is found by {@linkcode check}. */
  async #fork(lifecycle: Lifecycle, id: string, count: number): Promise<void> {
    const { children } = await lifecycle.forkSandbox(TEAM, id, { count });
    assertEquals(children.length, count);
    this.#ids.push(...children.map((child) => child.id));
  }

  async create(lifecycle = this.plane.lifecycles[0]!): Promise<void> {
    const { sandbox, done } = await lifecycle.startCreate(TEAM, SPEC);
    this.#ids.push(sandbox.id);
    await done;
  }

  /** Fake hosts send no heartbeats: `heard` says when the last one shall have been. */
  #changeHost(host: FakeHost, change: (host: FakeHost) => Promise<void>, heard: string): Promise<void> {
    this.#hostChanges = this.#hostChanges.then(async () => {
      await change(host);
      await this.plane.database.sql`
        update hosts set last_heartbeat_at = now() + ${heard}::interval where id = ${host.hostId}`;
    });
    return this.#hostChanges;
  }

  #comeBack(host: FakeHost): Promise<void> {
    return this.#changeHost(host, () => host.listens ? Promise.resolve() : host.comeBack(), "1 hour");
  }

  async hostsComeBack(): Promise<void> {
    for (const host of this.plane.hosts) await this.#comeBack(host);
  }

  #killVm(id: string): void {
    const sandbox = this.#hostOf(id)?.sandboxes.get(id);
    if (sandbox?.status !== "running") return;
    Object.assign(sandbox, { status: sandbox.snapshot ? "paused" : "failed", reason: "vm_gone" });
  }

  /** A service journals an operation and dies; half of the time the host was called before. */
  async #abandon(id: string, kind: AbandonedVerb): Promise<void> {
    const { database } = this.plane;
    const snapshotId = newId();
    const held = await database.transaction("test", async (sql) => {
      const row = (await lockSandbox(sql, TEAM, id))!;
      if (!canTransition(row.state, ABANDONED[kind])) return undefined;
      const initiator = { owner: 42n };
      const snapshot = { id: snapshotId, name: snapshotId, kind: "checkpoint", platform: false } as const;
      if (kind === "snapshot") return await beginSnapshot(sql, row, snapshot, initiator);
      return await beginOperation(sql, row, kind, initiator);
    });
    if (!held || held.operation.id < "m") return;
    const host = this.plane.hosts.find(({ hostId }) => hostId === held.sandbox.hostId);
    if (!host) return;
    const request = { sandboxId: id, operationId: held.operation.id, version: held.operation.version };
    const client = this.plane.clientOf(host);
    if (kind === "pause") await client.pauseSandbox(request);
    if (kind === "resume") await client.resumeSandbox(request);
    if (kind === "delete") await client.destroySandbox(request);
    if (kind === "snapshot") await client.createSnapshot({ ...request, snapshotId, keepSandbox: true });
  }

  /** Lets passes run until nothing moves any more. */
  async rest(): Promise<void> {
    await this.hostsComeBack();
    for (let quiet = 0, passes = 0; quiet < 2; passes++) {
      assert(
        passes < MOST_PASSES,
        `no rest: ${(await this.#rows()).map((row) => `${row.id} ${row.state}`).join(", ")}`,
      );
      const repairs = await this.plane.pass();
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

  /** @throws AssertionError where the database and a host, or two tables, disagree. */
  async check(): Promise<void> {
    await assertAgreement(this.plane.database, this.plane.hosts);
  }

  /** Delete always succeeds: of every sandbox, in whatever state it came to rest. */
  async cleanUp(): Promise<void> {
    const { lifecycles: [lifecycle], database, hosts } = this.plane;
    for (const { id } of await this.#rows()) await lifecycle!.deleteSandbox(TEAM, id);
    for (const { id } of (await listKeptSnapshots(database.sql, TEAM)).snapshots) await lifecycle!.deleteSnapshot(id);
    await this.rest();
    assertEquals((await listSandboxes(database.sql, TEAM)).sandboxes, []);
    for (const host of hosts) assertEquals([host.sandboxes.size, host.kept.size], [0, 0]);
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
