import type { HostContext } from "../sandbox/context.ts";
import { hasReflinks } from "../storage/reflink.ts";

/** What this host offers, as the scheduler and the operator see it. */
export async function hostCapabilities(context: HostContext): Promise<string[]> {
  return [
    `accelerator:${context.driver.identity.accelerator}`,
    `dirty_tracking:${context.tracking}`,
    ...(context.bases?.enabled ? ["shared_base"] : []),
    ...(await hasReflinks(context.layout.staging) ? ["reflink"] : []),
  ];
}
