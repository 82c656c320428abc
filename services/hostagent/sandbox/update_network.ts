import type { HostContext } from "./context.ts";
import { type NetworkUpdate, recordNetwork } from "./recorded_network.ts";
import type { Sandbox } from "./sandbox.ts";

/**
 * Replaces what a sandbox may reach. Lock held by the caller. In effect first, then recorded: an agent that is killed
 * between the two reports the older revision and is told again.
 * @returns the revision that is in effect: a newer one than the update's stays.
 * @throws TorporError `unavailable` when the rules could not be replaced: those of before are in effect.
 */
export async function updateNetwork(context: HostContext, sandbox: Sandbox, update: NetworkUpdate): Promise<number> {
  const { record } = sandbox;
  if (update.revision <= record.network.revision) return record.network.revision;
  await sandbox.vm?.network.apply(update.policy);
  record.network = recordNetwork(update);
  await sandbox.save(context.layout);
  return update.revision;
}
