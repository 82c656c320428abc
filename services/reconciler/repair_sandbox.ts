import { type HostRow, type InventoryRow, newOperationId } from "@torpor/db";
import { adoptPause, adoptRunning, type HostClient, markFailed, noteReason, repeatNetwork } from "@torpor/lifecycle";
import type { Verdict } from "./judge.ts";
import type { PassContext } from "./pass.ts";
import type { Repair } from "./repairs.ts";

/** Destroying a VM that hangs takes its host this long at most, ms. */
const DESTROY_TIMEOUT_MS = 60_000;

/** Does what was judged. @returns undefined when that was not possible: the next pass tries again. */
export async function repairSandbox(
  context: PassContext,
  client: HostClient,
  host: HostRow,
  sandboxId: string,
  row: InventoryRow | undefined,
  verdict: Exclude<Verdict, { do: "nothing" }>,
): Promise<Repair | undefined> {
  const { database, repairs } = context;
  const about = { sandboxId, hostId: host.id, fromState: row?.state };
  switch (verdict.do) {
    case "adopt_pause":
      return await repairs.carryOut(
        { ...about, kind: verdict.kind, toState: "paused", reason: verdict.reason },
        () => adoptPause(database, row!, verdict.snapshot, verdict.reason),
      );
    case "adopt_running":
      return await repairs.carryOut(
        { ...about, kind: verdict.kind, toState: "running" },
        () => adoptRunning(database, row!, verdict.accelerator),
      );
    case "note_reason":
      return await repairs.carryOut(
        { ...about, kind: verdict.kind, toState: "running", reason: verdict.reason },
        () => noteReason(database, row!, verdict.reason),
      );
    case "tell_network":
      return await repairs.carryOut(
        { ...about, kind: verdict.kind, toState: "running" },
        () => repeatNetwork(database, client, sandboxId),
      );
    case "mark_failed":
      return await repairs.carryOut(
        { ...about, kind: verdict.kind, toState: "failed", reason: verdict.reason },
        () => markFailed(database, row!, verdict.reason),
      );
    case "destroy":
      return await repairs.carryOut(
        { ...about, kind: "orphan_destroyed", toState: row?.state },
        () =>
          client.destroySandbox(
            { sandboxId, operationId: newOperationId(), version: row?.version ?? 0n },
            { timeoutMs: DESTROY_TIMEOUT_MS },
          ),
      );
  }
}
