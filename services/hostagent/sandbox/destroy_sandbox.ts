import { log } from "@torpor/telemetry";
import { releaseDamaged, releaseSnapshots } from "../snapshot/release.ts";
import { removeIfPresent } from "../storage/durable_file.ts";
import type { HostContext } from "./context.ts";
import type { OperationRecord } from "./record.ts";
import type { Sandbox } from "./sandbox.ts";
import { rememberWorkingSet } from "./working_set.ts";

/**
 * Ends a sandbox's VM and removes its directory and those of its snapshots that nobody else reads. The record goes last:
 * a destroy that is cut short is found and finished at the next start. Lock held by the caller.
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
  const { vm, newest, snapshots } = sandbox;
  sandbox.vm = undefined;
  if (vm) await rememberWorkingSet(context, sandbox.record, vm);
  await vm?.[Symbol.asyncDispose]();
  sandbox.newest = undefined;
  try {
    if (sandbox.record.snapshot_id) await releaseDamaged(layout, context.references, sandbox.record.snapshot_id);
    await releaseSnapshots(layout, context.references, snapshots);
    await removeIfPresent(layout.sandbox(sandbox.id).directory);
  } catch (error) {
    sandbox.newest = newest;
    throw error;
  }
}
