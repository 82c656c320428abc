import type { SandboxRow } from "@torpor/db";
import { timed } from "@torpor/telemetry";
import type { Held } from "./journal.ts";
import { stateAroundSnapshot } from "./states.ts";

/** Measures an operation from its begin to its end in the journal. */
export function timedOperation(
  { operation, sandbox }: Held,
  work: () => Promise<SandboxRow>,
): Promise<SandboxRow> {
  switch (operation.kind) {
    case "create": {
      const tier = sandbox.sourceSnapshotId === null ? "cold" : "clone";
      return timed("torpor.sandbox.create.duration", { "torpor.tier": tier }, work);
    }
    case "resume":
      return timed("torpor.sandbox.resume.duration", { "torpor.tier": "warm" }, work);
    case "snapshot": {
      const verb = stateAroundSnapshot(sandbox) === "running" ? "checkpoint" : "snapshot";
      return timed(`torpor.sandbox.${verb}.duration`, {}, work);
    }
    case "pause":
    case "delete":
      return timed(`torpor.sandbox.${operation.kind}.duration`, {}, work);
  }
}
