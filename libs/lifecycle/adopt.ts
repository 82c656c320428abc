import {
  closeOperation,
  type Database,
  lockSandboxOfAnyTeam,
  type Queryable,
  type SandboxRow,
  setLostReason,
  setRunningReason,
  type SnapshotRow,
  waiveLimits,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { beginOperation, settleReservation } from "./journal.ts";
import { transition } from "./transition.ts";

/** A sandbox as the caller has judged it. */
export type Judged = Pick<SandboxRow, "id" | "version">;

/**
 * What hosts have done without being asked, written down after the fact. Each function takes the row as the caller has
 * judged it and throws `conflict` when the sandbox has changed since.
 */

/**
 * Its host has paused it (idle timeout, shutdown) or, with a `reason`, lost its VM and kept the snapshot before that.
 */
export async function adoptPause(
  database: Database,
  row: Judged,
  snapshot: SnapshotRow,
  reason = "",
): Promise<SandboxRow> {
  const changes = { snapshot, reason, accelerator: "" };
  return await database.transaction("adopt_pause", async (sql) => {
    const locked = await lockUnchanged(sql, row);
    if (locked.state === "lost") return await atRest(sql, await transition(sql, locked, "paused", changes));
    const { sandbox, operation } = await beginOperation(sql, locked, "pause", { owner: null });
    const paused = await transition(sql, sandbox, "paused", changes);
    await closeOperation(sql, operation.id, {
      error: reason === "" ? undefined : { code: reason, message: "the VM ended; the snapshot before that is kept" },
    });
    return await atRest(sql, paused);
  });
}

/** It runs on its host, though the database has it `paused` or `lost`. */
export async function adoptRunning(database: Database, row: Judged, accelerator: string): Promise<SandboxRow> {
  return await database.transaction("adopt_running", async (sql) => {
    const locked = await lockUnchanged(sql, row);
    if (locked.state === "lost") return await atRest(sql, await transition(sql, locked, "running", { accelerator }));
    await waiveLimits(sql);
    const { sandbox, operation } = await beginOperation(sql, locked, "resume", { owner: null });
    const running = await transition(sql, sandbox, "running", { accelerator });
    await closeOperation(sql, operation.id, {});
    return await atRest(sql, running);
  });
}

/** It runs, and its guest stands still for this reason, or goes on again (empty). No change of its state: the version stays. */
export async function noteReason(database: Database, row: Judged, reason: string): Promise<void> {
  if (await setRunningReason(database.sql, row, reason)) return;
  throw new TorporError("conflict", `sandbox ${row.id} is no longer running at version ${row.version}`);
}

/** It cannot be recovered. @param reason an error code. */
export async function markFailed(database: Database, row: Judged, reason: string): Promise<SandboxRow> {
  return await database.transaction("mark_failed", async (sql) => {
    const locked = await lockUnchanged(sql, row);
    return await atRest(sql, await transition(sql, locked, "failed", { reason, accelerator: "" }));
  });
}

/**
 * Its host has been silent for too long, or was removed; the operation that was under way there has no known outcome. One
 * that is lost already gets the reason.
 */
export async function markLost(
  database: Database,
  row: Judged,
  reason: "host_unreachable" | "host_removed",
): Promise<SandboxRow> {
  return await database.transaction("mark_lost", async (sql) => {
    const locked = await lockUnchanged(sql, row);
    if (locked.state === "lost") {
      await setLostReason(sql, locked.id, reason);
      return { ...locked, reason };
    }
    if (locked.deadline !== null) {
      const error = { code: reason, message: "the host was lost during the operation" };
      await closeOperation(sql, locked.operationId!, { error });
    }
    return await atRest(sql, await transition(sql, locked, "lost", { reason }));
  });
}

async function lockUnchanged(sql: Queryable, row: Judged): Promise<SandboxRow> {
  const locked = await lockSandboxOfAnyTeam(sql, row.id);
  if (locked?.version === row.version) return locked;
  throw new TorporError("conflict", `sandbox ${row.id} is no longer at version ${row.version}`);
}

async function atRest(sql: Queryable, row: SandboxRow): Promise<SandboxRow> {
  await settleReservation(sql, row);
  return row;
}
