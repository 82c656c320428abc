import {
  type Database,
  getKeptSnapshot,
  hasRunningSnapshotOperation,
  type KeptSnapshotRow,
  lockKeptSnapshot,
  type OperationRow,
  type Queryable,
  setKeptSnapshotExpiry,
  setKeptSnapshotState,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { log, withSpan } from "@torpor/telemetry";
import { lockSnapshotSource } from "./begin_verb.ts";
import type { HostClient } from "./host_clients.ts";
import { requestHash } from "./idempotency.ts";
import { beginSnapshot } from "./journal.ts";
import type { RequestOptions, Requests } from "./requests.ts";
import { hostClientOf } from "./removed_host.ts";

/** A snapshot to be taken. */
export interface SnapshotRequest {
  sandboxId: string;
  /** Absent: one is generated, and the snapshot is a checkpoint. */
  name?: string;
  /** Only for administrators: every team sees it. Default false. */
  platform?: boolean;
  /** Seconds until it is deleted; 0: never. Absent: what the deployment does by default, and never for the platform's. */
  expiresInSec?: number;
}

/** A snapshot that is being taken. */
export interface StartedSnapshot {
  operation: OperationRow;
  /** As it was when the request was accepted. */
  snapshot: KeptSnapshotRow;
  /** The ready snapshot; rejects as `StartedOperation.done` does. */
  done: Promise<KeptSnapshotRow>;
}

/** Deleting frees files; a host that does not answer within this time is asked again by the reconciler, ms. */
const DELETE_TIMEOUT_MS = 30_000;

/** States that a snapshot can be deleted from. */
const DELETABLE = ["creating", "ready", "failed"] as const;

/** Takes and deletes snapshots that belong to no sandbox. */
export class Snapshots {
  constructor(
    private readonly database: Database,
    private readonly hosts: (address: string) => HostClient,
    private readonly requests: Requests,
    private readonly retentionSec: number,
  ) {}

  /** Begins to take a snapshot; see Lifecycle.startSnapshot. */
  async start(teamId: string, request: SnapshotRequest, options: RequestOptions): Promise<StartedSnapshot> {
    const { sandboxId, name, platform = false } = request;
    const hash = await requestHash("snapshot", sandboxId, { name, platform, expiresInSec: request.expiresInSec });
    const expiresInSec = request.expiresInSec ?? (platform ? 0 : this.retentionSec);
    const id = newId();
    const kept = name === undefined
      ? { id, name: `checkpoint-${id}`, kind: "checkpoint" as const, platform, expiresInSec }
      : { id, name, kind: "named" as const, platform, expiresInSec };
    const started = await this.requests.start(teamId, options, hash, async (sql, initiator) => {
      const source = await lockSnapshotSource(sql, teamId, sandboxId);
      return { ...await beginSnapshot(sql, source, kept, initiator), begun: true };
    });
    const operation = started.operation!;
    const done = started.done.then(() => this.require(operation.snapshotId!));
    done.catch(() => {});
    return { operation, snapshot: await this.require(operation.snapshotId!), done };
  }

  /** One snapshot whatever its team and state. @throws `snapshot_not_found`. */
  async require(id: string): Promise<KeptSnapshotRow> {
    const snapshot = await getKeptSnapshot(this.database.sql, id);
    if (!snapshot) throw new TorporError("snapshot_not_found", `no snapshot ${id}`);
    return snapshot;
  }

  /** Changes when a snapshot expires; see Lifecycle.setSnapshotExpiry. */
  async setExpiry(id: string, expiresInSec: number): Promise<KeptSnapshotRow> {
    const changed = await setKeptSnapshotExpiry(this.database.sql, id, expiresInSec);
    if (changed) return changed;
    const { name, state } = await this.require(id);
    throw new TorporError("conflict", `snapshot ${name} is ${state}`);
  }

  /** Deletes a snapshot; see Lifecycle.deleteSnapshot. */
  async delete(id: string): Promise<{ confirmed: boolean }> {
    await setKeptSnapshotState(this.database.sql, id, DELETABLE, "deleting");
    return await this.remove(id);
  }

  /**
   * Has the host remove a snapshot that is being deleted.
   * @returns confirmed: false when the host could not be asked, or still takes it; the reconciler goes on.
   */
  async remove(id: string): Promise<{ confirmed: boolean }> {
    try {
      return { confirmed: await removeSnapshot(this.database, this.hosts, await this.require(id)) };
    } catch (thrown) {
      log("warn", "snapshot_delete_unconfirmed", { snapshot_id: id }, thrown);
      return { confirmed: false };
    }
  }
}

/**
 * Has the host remove a snapshot that is in state `deleting`, and notes it.
 * @returns false while the operation that takes it has not ended: a host that has not begun it would take it afterwards.
 * @throws what the call throws when the host cannot be asked.
 */
export async function removeSnapshot(
  database: Database,
  hosts: (address: string) => HostClient,
  snapshot: KeptSnapshotRow,
): Promise<boolean> {
  if (snapshot.state === "deleted") return true;
  return await withSpan("lifecycle.delete_snapshot", { "torpor.snapshot_id": snapshot.id }, async () => {
    if (await hasRunningSnapshotOperation(database.sql, snapshot.id)) return false;
    const host = await hostClientOf(database, hosts, snapshot.hostId);
    await host.deleteSnapshot({ snapshotId: snapshot.id }, { timeoutMs: DELETE_TIMEOUT_MS });
    await setKeptSnapshotState(database.sql, snapshot.id, ["deleting"], "deleted");
    return true;
  });
}

/**
 * See to it that a sandbox of this team may be spawned from a snapshot, until the transaction ends.
 * @throws `snapshot_not_found`, also for another team's; `conflict` when it is not ready.
 */
export async function requireSpawnable(sql: Queryable, teamId: string, id: string): Promise<KeptSnapshotRow> {
  const snapshot = await lockKeptSnapshot(sql, id);
  if (!snapshot || snapshot.state === "deleted" || (snapshot.teamId !== teamId && !snapshot.platform)) {
    throw new TorporError("snapshot_not_found", `no snapshot ${id}`);
  }
  if (snapshot.state === "ready") return snapshot;
  const reason = snapshot.reason === "" ? "" : ` (${snapshot.reason})`;
  throw new TorporError("conflict", `snapshot ${snapshot.name} is ${snapshot.state}${reason}`, {
    hint: snapshot.state === "creating" ? "wait until it is ready" : undefined,
  });
}
