import { log } from "@torpor/telemetry";
import type { FoundSnapshot } from "../snapshot/sweep.ts";
import { removeIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import type { HostContext } from "./context.ts";
import type { OperationRecord } from "./record.ts";
import type { Sandbox } from "./sandbox.ts";
import { rememberWorkingSet } from "./working_set.ts";

/**
 * Ends a sandbox's VM and removes its snapshots and its directory, the record last: a destroy that is cut short is found
 * and finished at the next start. Lock held by the caller.
 */
export async function destroySandbox(
  context: HostContext,
  sandbox: Sandbox,
  operation: OperationRecord,
): Promise<void> {
  const { layout } = context;
  sandbox.record.operation = operation;
  try {
    await sandbox.save(layout);
  } catch (error) {
    // A full disk must not keep anybody from deleting.
    log("warn", "record_not_saved", { sandbox_id: sandbox.id }, error);
  }
  const { vm } = sandbox;
  sandbox.vm = undefined;
  if (vm) await rememberWorkingSet(context, sandbox.record, vm);
  await vm?.[Symbol.asyncDispose]();
  await removeSnapshots(layout, sandbox.newest);
  await removeIfPresent(layout.sandbox(sandbox.id).directory);
}

/** Removes a sandbox's newest snapshot and every generation that it reads. */
export async function removeSnapshots(layout: Layout, newest: FoundSnapshot | undefined): Promise<void> {
  if (!newest) return;
  const { manifest, sources } = newest;
  for (const snapshotId of new Set([manifest.snapshot_id, ...(sources ?? [])])) {
    const paths = layout.snapshot(snapshotId);
    await removeIfPresent(paths.manifest);
    await removeIfPresent(paths.directory);
  }
}
