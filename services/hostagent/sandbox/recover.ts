import { isId } from "@torpor/ids";
import { log } from "@torpor/telemetry";
import { type FoundSnapshot, sweepSnapshots } from "../snapshot/sweep.ts";
import { namesIn, readIfPresent, removeIfPresent } from "../storage/durable_file.ts";
import { adoptVm } from "./adopt_vm.ts";
import type { HostContext } from "./context.ts";
import { removeSnapshots } from "./destroy_sandbox.ts";
import { removeLiveFiles } from "./live_files.ts";
import { parseRecord, type SandboxRecord } from "./record.ts";
import { Sandbox } from "./sandbox.ts";
import { killSpares, killStrays } from "./strays.ts";

/** What an earlier agent left behind. */
export interface Recovered {
  sandboxes: Sandbox[];
  /** Snapshots without a sandbox record: kept, and removed only by a destroy. */
  orphans: Map<string, FoundSnapshot>;
}

/**
 * Takes over what an earlier agent left, before anything is served: drops staged snapshots, finishes what was committed,
 * adopts VMs that run, and kills VMs that must not. Committed snapshots are never deleted here.
 */
export async function recoverSandboxes(context: HostContext): Promise<Recovered> {
  const { layout } = context;
  for (const directory of [layout.sandboxes, layout.snapshots, layout.staging]) {
    await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
  }
  const newest = await sweepSnapshots(layout);
  const sandboxes: Sandbox[] = [];
  for (const id of (await namesIn(layout.sandboxes)).filter(isId)) {
    const sandbox = await recoverSandbox(context, id, newest.get(id));
    if (!sandbox) continue;
    newest.delete(id);
    sandboxes.push(sandbox);
    log("info", "sandbox_recovered", { sandbox_id: id, status: sandbox.status, reason: sandbox.record.reason });
  }
  await killSpares(context, new Set(sandboxes.flatMap(({ vm }) => vm ? [vm.vmm.process.pid] : [])));
  for (const [sandboxId, { manifest }] of newest) {
    log("error", "snapshot_without_sandbox", { sandbox_id: sandboxId, snapshot_id: manifest.snapshot_id });
  }
  return { sandboxes, orphans: newest };
}

async function recoverSandbox(
  context: HostContext,
  id: string,
  found: FoundSnapshot | undefined,
): Promise<Sandbox | undefined> {
  const { layout } = context;
  const record = await readRecord(context, id);
  if (record === "unreadable") {
    // Its files stay for the operator, and its snapshot; only a destroy removes them.
    await killStrays(context, id);
    return undefined;
  }
  const kind = record?.operation?.state === "running" ? record.operation.kind : undefined;
  if (!record || kind === "create" || kind === "destroy") {
    // A creation or deletion that was cut short, or a directory without a record.
    await killStrays(context, id);
    if (kind === "destroy") await removeSnapshots(layout, found);
    await removeIfPresent(layout.sandbox(id).directory);
    return undefined;
  }
  const sandbox = new Sandbox(record);
  sandbox.newest = found;
  const committed = found !== undefined && found.manifest.snapshot_id !== record.snapshot_id;
  if (committed) record.snapshot_id = found.manifest.snapshot_id;
  // A VM that was overtaken by its own snapshot, or whose resume nobody has confirmed, must not run.
  const mayRun = record.vm !== null && !committed && kind !== "resume";
  sandbox.vm = mayRun ? await adoptVm(context, sandbox) : undefined;
  settle(sandbox, kind, committed);
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

async function readRecord(context: HostContext, id: string): Promise<SandboxRecord | undefined | "unreadable"> {
  const paths = context.layout.sandbox(id);
  const running = await readOne(id, paths.runningRecord);
  const durable = await readOne(id, paths.record);
  // A power loss may have broken the one that is not synced; the VM that it told of is then gone as well.
  if (running === undefined || running === "unreadable") return durable;
  if (durable === undefined || durable === "unreadable") return running;
  return running.revision > durable.revision ? running : durable;
}

async function readOne(id: string, path: string): Promise<SandboxRecord | undefined | "unreadable"> {
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
function settle(sandbox: Sandbox, kind: string | undefined, committed: boolean): void {
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
  if (committed) {
    operation.state = "succeeded";
    return;
  }
  operation.state = "failed";
  operation.error_code = kind === "resume" ? "resume_failed" : "pause_failed";
  operation.error_message = "the host agent was restarted meanwhile";
}
