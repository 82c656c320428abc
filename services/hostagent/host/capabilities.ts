import type { HostContext } from "../sandbox/context.ts";

/** What this host offers, as the scheduler and the operator see it. */
export function hostCapabilities(context: HostContext): string[] {
  return [
    `accelerator:${context.driver.identity.accelerator}`,
    `dirty_tracking:${context.tracking}`,
    ...(context.bases?.enabled ? ["shared_base"] : []),
    ...(context.reflinks ? ["reflink"] : []),
    ...(context.networks?.capability ? [context.networks.capability] : []),
    ...context.jails?.capabilities ?? [],
  ];
}
