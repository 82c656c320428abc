import { log } from "@torpor/telemetry";
import type { Layout } from "../storage/layout.ts";
import type { Sandbox } from "./sandbox.ts";

/** The operation itself is over, and its outcome is in memory: a full disk must not turn a success into a failure. */
export async function saveOutcome(layout: Layout, sandbox: Sandbox): Promise<void> {
  try {
    await sandbox.save(layout);
  } catch (error) {
    log("error", "record_not_saved", { sandbox_id: sandbox.id }, error);
  }
}
