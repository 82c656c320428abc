import type { ErrorCode } from "@torpor/errors";
import { isId } from "@torpor/ids";
import { log } from "@torpor/telemetry";
import { releaseDamaged, releaseSnapshots } from "../snapshot/release.ts";
import { type FoundSnapshot, sweepSnapshots } from "../snapshot/sweep.ts";
import type { TableReads } from "../snapshot/table_reads.ts";
import { namesIn, readIfPresent, removeIfPresent } from "../storage/durable_file.ts";
import { adoptVm } from "./adopt_vm.ts";
import type { HostContext } from "./context.ts";
import { removeLiveFiles } from "./live_files.ts";
import { type OperationKind, parseRecord, type SandboxRecord } from "./record.ts";
import { Sandbox } from "./sandbox.ts";
import { killSpares, killStrays } from "./strays.ts";

/** What an earlier agent left behind. */
export interface Recovered {
  sandboxes: Sandbox[];
  /** Newest generations without a sandbox record: kept, and removed only by a destroy. */
  orphans: Map<string, FoundSnapshot>;
}

/** What an operation has failed with that a restart has cut short. */
const FAILURE: Record<OperationKind, ErrorCode> = {
  create: "vm_start_failed",
  pause: "pause_failed",
  auto_pause: "pause_failed",
  resume: "resume_failed",
  snapshot: "snapshot_failed",
  snapshot_and_destroy: "snapshot_failed",
  destroy: "internal",
};

/** A record as it was read; "unreadable" when there is one that cannot be. */
type ReadRecord = SandboxRecord | undefined | "unreadable";

/**
 * Takes over what an earlier agent left, before anything is served: drops staged snapshots, finishes what was committed,
 * adopts VMs that run, and kills VMs that must not. Newest generations and kept snapshots are never deleted here.
 */
export async function recoverSandboxes(context: HostContext): Promise<Recovered> {
  const { layout, references } = context;
  for (const directory of [layout.sandboxes, layout.snapshots, layout.staging]) {
    await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
  }
  const records = new Map<string, ReadRecord>();
  for (const id of (await namesIn(layout.sandboxes)).filter(isId)) records.set(id, await readRecord(context, id));
  const swept = await sweepSnapshots(layout, parentIds(records.values()));
  for (const snapshot of swept.kept.values()) context.kept.add(snapshot);
  noteDamaged(context, swept.damaged, records.values());
  const { newest, parents } = swept;
  const sandboxes: Sandbox[] = [];
  using _sandboxes = references.watch(() => sandboxes.flatMap(({ snapshots }) => snapshots));
  using _newest = references.watch(() => newest.values());
  {
    using _parents = references.watch(() => parents.values());
    for (const [id, record] of records) {
      const sandbox = await recoverSandbox(context, id, record, newest);
      if (!sandbox) continue;
      sandboxes.push(sandbox);
      // An older generation than the one that is missing is nobody's, until the sandbox is destroyed.
      if (sandbox.newest) newest.delete(id);
      log("info", "sandbox_recovered", { sandbox_id: id, status: sandbox.status, reason: sandbox.reason });
    }
  }
  // Of VMs that are gone.
  await releaseSnapshots(layout, references, parents.values());
  await killSpares(context, new Set(sandboxes.flatMap(({ vm }) => vm ? [vm.vmm.process.pid] : [])));
  await context.jails?.sweep(new Set(sandboxes.flatMap(({ vm }) => vm?.jail ? [vm.jail.name] : [])));
  await context.networks?.adoptedAll();
  for (const [sandboxId, { manifest }] of newest) {
    log("error", "snapshot_without_sandbox", { sandbox_id: sandboxId, snapshot_id: manifest.snapshot_id });
  }
  return { sandboxes, orphans: newest };
}

function noteDamaged(
  { references, kept }: HostContext,
  damaged: Map<string, TableReads>,
  records: Iterable<ReadRecord>,
): void {
  const ofSandboxes = new Set<string | null>();
  for (const record of records) if (record && record !== "unreadable") ofSandboxes.add(record.snapshot_id);
  for (const [id, reads] of damaged) {
    references.noteDamaged(id, reads);
    if (ofSandboxes.has(id)) kept.leaveToSandbox(id);
  }
}

function parentIds(records: Iterable<ReadRecord>): string[] {
  const ids: string[] = [];
  for (const record of records) {
    if (record && record !== "unreadable" && record.vm?.parent_id) ids.push(record.vm.parent_id);
  }
  return ids;
}

async function recoverSandbox(
  context: HostContext,
  id: string,
  record: ReadRecord,
  newest: Map<string, FoundSnapshot>,
): Promise<Sandbox | undefined> {
  const { layout } = context;
  const found = newest.get(id);
  if (record === "unreadable") {
    // Its files stay for the operator, and its snapshot; only a destroy removes them.
    await killStrays(context, id);
    return undefined;
  }
  if (!record || isGivenUp(context, record)) {
    // A creation or deletion that was cut short, or a directory without a record.
    await killStrays(context, id);
    if (record?.snapshot_id) await releaseDamaged(layout, context.references, record.snapshot_id);
    if (record && newest.delete(id)) await releaseSnapshots(layout, context.references, [found]);
    await removeIfPresent(layout.sandbox(id).directory);
    return undefined;
  }
  const kind = record.operation?.state === "running" ? record.operation.kind : undefined;
  const sandbox = new Sandbox(record);
  const committed = isNewer(found, record);
  if (committed) {
    record.snapshot_id = found.manifest.snapshot_id;
    record.generation = found.manifest.generation;
  }
  sandbox.newest = found?.manifest.snapshot_id === record.snapshot_id ? found : undefined;
  // A VM that was overtaken by its own snapshot, or whose resume nobody has confirmed, must not run.
  const mayRun = record.vm !== null && !committed && kind !== "resume";
  sandbox.vm = mayRun ? await adoptVm(context, sandbox) : undefined;
  settle(context, sandbox, kind, committed);
  if (!sandbox.vm) {
    await killStrays(context, id);
    if (record.state === "paused") await removeLiveFiles(layout, id);
  }
  try {
    await sandbox.save(layout);
  } catch (error) {
    // With a full disk the agent must start all the same: somebody has to be able to delete.
    log("error", "record_not_saved", { sandbox_id: id }, error);
  }
  return sandbox;
}

/** Committed, and its agent was killed before it could note that. */
function isNewer(found: FoundSnapshot | undefined, record: SandboxRecord): found is FoundSnapshot {
  if (!found || found.manifest.snapshot_id === record.snapshot_id) return false;
  return found.manifest.generation > record.generation;
}

/** Nothing is to be left of it: its creation or its deletion was cut short. */
function isGivenUp({ kept }: HostContext, { operation }: SandboxRecord): boolean {
  if (operation?.state !== "running") return false;
  const { kind, snapshot_id } = operation;
  if (kind === "snapshot_and_destroy") return snapshot_id !== null && kept.find(snapshot_id) !== undefined;
  return kind === "create" || kind === "destroy";
}

async function readRecord(context: HostContext, id: string): Promise<ReadRecord> {
  const paths = context.layout.sandbox(id);
  const running = await readOne(id, paths.runningRecord);
  const durable = await readOne(id, paths.record);
  // A power loss may have broken the one that is not synced; the VM that it told of is then gone as well.
  if (running === undefined || running === "unreadable") return durable;
  if (durable === undefined || durable === "unreadable") return running;
  return running.revision > durable.revision ? running : durable;
}

async function readOne(id: string, path: string): Promise<ReadRecord> {
  const text = await readIfPresent(path);
  if (text === undefined) return undefined;
  try {
    return parseRecord(text);
  } catch (error) {
    log("error", "record_unreadable", { sandbox_id: id, path }, error);
    return "unreadable";
  }
}

/** Brings the record in line with what was found; the operation in flight gets its outcome. */
function settle(
  { kept }: HostContext,
  sandbox: Sandbox,
  kind: OperationKind | undefined,
  committed: boolean,
): void {
  const { record } = sandbox;
  const { operation } = record;
  if (committed) {
    sandbox.rest("paused", "");
    record.auto_paused = kind === "auto_pause";
  } else if (sandbox.vm) {
    sandbox.rest("running", "");
    sandbox.touch();
  } else if (record.state === "running") {
    sandbox.rest(record.snapshot_id ? "paused" : "failed", "vm_gone");
  }
  record.vm = sandbox.vm?.record ?? null;
  if (!operation || operation.state !== "running") return;
  const made = operation.snapshot_id !== null && kept.find(operation.snapshot_id) !== undefined;
  if (kind === "snapshot" ? made : committed && kind !== "snapshot_and_destroy") {
    operation.state = "succeeded";
    return;
  }
  operation.state = "failed";
  operation.error_code = FAILURE[kind!];
  operation.error_message = "the host agent was restarted meanwhile";
}
