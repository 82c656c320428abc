import { assertEquals } from "@std/assert";
import { newId } from "@torpor/ids";
import { Images } from "../storage/images.ts";
import { Layout } from "../storage/layout.ts";
import { KeptSnapshots } from "../snapshot/kept.ts";
import { SnapshotReferences } from "../snapshot/references.ts";
import { sweepSnapshots } from "../snapshot/sweep.ts";
import { writeSnapshot } from "../snapshot/testing/write_snapshot.ts";
import { namesIn } from "../storage/durable_file.ts";
import { QemuDriver } from "../vmm/qemu/driver.ts";
import type { HostContext } from "./context.ts";
import { SandboxManager } from "./manager.ts";
import { type OperationKind, type OperationRecord, RECORD_SCHEMA, type SandboxRecord } from "./record.ts";
import { NO_RECLAIM } from "./reclaim_caps.ts";
import { recoverSandboxes } from "./recover.ts";
import { Semaphore } from "./semaphore.ts";

/** A host on which nothing runs. */
async function withHost(work: (context: HostContext) => Promise<void>): Promise<void> {
  const home = await Deno.makeTempDir();
  const layout = new Layout(home);
  const driver = new QemuDriver({
    program: "/bin/false",
    version: "7.2.22",
    accelerator: "tcg",
    hostCpu: "",
    hostTscKhz: 1,
    nativeDirectory: "/nowhere",
  });
  const images = new Images(layout.cache, layout.images);
  const references = new SnapshotReferences();
  const kept = new KeptSnapshots(layout, references);
  await work({
    layout,
    driver,
    images,
    references,
    kept,
    nativeDirectory: "/nowhere",
    tracking: "pagemap_scan",
    prefetch: false,
    reclaim: NO_RECLAIM,
    copySlots: new Semaphore(1),
  });
  await Deno.remove(home, { recursive: true });
}

function recordOf(sandboxId: string, changes: Partial<SandboxRecord>): SandboxRecord {
  return {
    schema: RECORD_SCHEMA,
    revision: 1,
    sandbox_id: sandboxId,
    template: "base",
    vcpus: 1,
    memory_mb: 128,
    disk_size_mb: 64,
    timeout_sec: 0,
    env: {},
    base_image: "0".repeat(32),
    created_at_ms: 1,
    last_active_at_ms: 1,
    version: 4,
    state: "running",
    reason: "",
    operation: null,
    snapshot_id: null,
    generation: 0,
    network: { allow_internet_access: true, allow_out: [], deny_out: [], revision: 0 },
    auto_paused: false,
    base_snapshot_id: null,
    vm: null,
    reclaim: NO_RECLAIM,
    ...changes,
  };
}

function cutShort(kind: OperationKind): OperationRecord {
  return { operation_id: newId(), kind, state: "running", error_code: "", error_message: "", snapshot_id: null };
}

async function writeRecord(layout: Layout, text: string, id = newId()): Promise<string> {
  await Deno.mkdir(layout.sandbox(id).directory, { recursive: true });
  await Deno.writeTextFile(layout.sandbox(id).record, text);
  return id;
}

Deno.test("a process that merely got the number of a VMM is neither adopted nor killed", async () => {
  await withHost(async (context) => {
    const bystander = new Deno.Command("sleep", { args: ["60"] }).spawn();
    const id = newId();
    const vm = {
      vmm: { pid: bystander.pid, start_time: "1" },
      command_line_mark: "sleep",
      accelerator: "tcg" as const,
      memory_fd: 3,
      pager: null,
      network: null,
      jail: null,
      parent_id: null,
      tracking: "compare" as const,
      marks_complete: true,
    };
    await writeRecord(context.layout, JSON.stringify(recordOf(id, { vm })), id);
    const { sandboxes } = await recoverSandboxes(context);
    assertEquals(sandboxes.map(({ status, record }) => [status, record.reason]), [["failed", "vm_gone"]]);
    // It still runs: a signal to a process that has ended would throw.
    bystander.kill("SIGTERM");
    assertEquals((await bystander.status).signal, "SIGTERM");
  });
});

Deno.test("a record that cannot be read stops nobody, keeps its files, and can be destroyed", async () => {
  await withHost(async (context) => {
    const { layout } = context;
    const damaged = await writeRecord(layout, "{");
    const id = newId();
    await writeRecord(layout, JSON.stringify(recordOf(id, { state: "failed", reason: "vm_gone" })), id);
    const { sandboxes, orphans } = await recoverSandboxes(context);
    assertEquals(sandboxes.map((sandbox) => sandbox.id), [id]);
    assertEquals((await namesIn(layout.sandboxes)).length, 2);
    await using manager = new SandboxManager(context, sandboxes, orphans);
    for (const sandboxId of [damaged, id]) await manager.destroy({ sandboxId, operationId: "", version: 0 });
    assertEquals(await namesIn(layout.sandboxes), []);
  });
});

Deno.test("a deletion that was cut short is finished, an empty directory is removed", async () => {
  await withHost(async (context) => {
    const { layout } = context;
    const operation = cutShort("destroy");
    const id = newId();
    await writeRecord(layout, JSON.stringify(recordOf(id, { operation })), id);
    await Deno.mkdir(layout.sandbox(newId()).directory);
    assertEquals((await recoverSandboxes(context)).sandboxes, []);
    assertEquals(await namesIn(layout.sandboxes), []);
  });
});

Deno.test("a snapshot operation that was cut short is judged by whether the snapshot is there", async () => {
  await withHost(async (context) => {
    const { layout } = context;
    const made = newId();
    await writeSnapshot(layout, { id: made, sandboxId: newId(), sources: [made], kind: "kept" });
    const cases = [
      { kind: "snapshot", snapshot_id: made, state: "succeeded" },
      { kind: "snapshot", snapshot_id: newId(), state: "failed" },
      { kind: "snapshot_and_destroy", snapshot_id: newId(), state: "failed" },
      // The snapshot was the point; what is left of the sandbox goes.
      { kind: "snapshot_and_destroy", snapshot_id: made, state: undefined },
    ] as const;
    for (const { kind, snapshot_id, state } of cases) {
      const [id, newest] = [newId(), newId()];
      await writeSnapshot(layout, { id: newest, sandboxId: id, sources: [newest, made] });
      const operation = { ...cutShort(kind), snapshot_id };
      await writeRecord(layout, JSON.stringify(recordOf(id, { state: "paused", snapshot_id: newest, operation })), id);
      const { sandboxes } = await recoverSandboxes(context);
      const sandbox = sandboxes.find((sandbox) => sandbox.id === id);
      assertEquals(sandbox?.status, state && "paused");
      assertEquals(sandbox?.record.operation?.state, state);
      assertEquals((await namesIn(layout.snapshots)).includes(newest), state !== undefined);
      assertEquals((await namesIn(layout.snapshots)).includes(made), true);
    }
  });
});

Deno.test("an older generation is never taken for one whose manifest is damaged, and both go with the sandbox", async () => {
  await withHost(async (context) => {
    const { layout } = context;
    const [id, older, newest, kept] = [newId(), newId(), newId(), newId()];
    await writeSnapshot(layout, { id: older, sandboxId: id, generation: 1, sources: [older] });
    await writeSnapshot(layout, { id: newest, sandboxId: id, generation: 2, sources: [newest, older] });
    await writeSnapshot(layout, { id: kept, sandboxId: id, sources: [kept], kind: "kept" });
    for (const damaged of [newest, kept]) await Deno.writeTextFile(layout.snapshot(damaged).manifest, "{");
    const record = { state: "paused" as const, snapshot_id: newest, generation: 2 };
    await writeRecord(layout, JSON.stringify(recordOf(id, record)), id);
    const { sandboxes: [sandbox], orphans } = await recoverSandboxes(context);
    assertEquals([sandbox?.record.snapshot_id, sandbox?.newest], [newest, undefined]);
    assertEquals(context.kept.list(), []);
    await using manager = new SandboxManager(context, [sandbox!], orphans);
    await context.kept.delete(newest);
    assertEquals(await namesIn(layout.snapshots), [older, newest, kept].sort());
    await context.kept.delete(kept);
    assertEquals(await namesIn(layout.snapshots), [older, newest].sort());
    await manager.destroy({ sandboxId: id, operationId: "", version: 0 });
    await sweepSnapshots(layout);
    assertEquals(await namesIn(layout.snapshots), []);
  });
});

Deno.test("of the two records the newer one counts, and a broken unsynced one is as good as none", async () => {
  await withHost(async (context) => {
    const { layout } = context;
    const durable = { state: "failed" as const, version: 3 };
    for (const [revision, version] of [[2, 5], [0, 3], [undefined, 3]] as const) {
      const id = newId();
      await writeRecord(layout, JSON.stringify(recordOf(id, durable)), id);
      const running = revision === undefined ? "" : JSON.stringify(recordOf(id, { ...durable, revision, version: 5 }));
      await Deno.writeTextFile(layout.sandbox(id).runningRecord, running);
      const { sandboxes } = await recoverSandboxes(context);
      assertEquals(sandboxes.find((sandbox) => sandbox.id === id)?.record.version, version);
      assertEquals((await namesIn(layout.sandbox(id).directory)).includes("running.json"), false);
    }
  });
});

Deno.test("a fenced version survives a restart", async () => {
  await withHost(async (context) => {
    const id = newId();
    await writeRecord(context.layout, JSON.stringify(recordOf(id, { state: "failed", version: 9 })), id);
    const { sandboxes } = await recoverSandboxes(context);
    await using manager = new SandboxManager(context, sandboxes);
    const code = await manager.pause({ sandboxId: id, operationId: "", version: 8 }).catch((error) => error.code);
    assertEquals(code, "fenced");
  });
});
