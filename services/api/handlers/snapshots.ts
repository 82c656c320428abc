import type { z } from "zod";
import {
  findKeptSnapshot,
  getKeptSnapshot,
  type KeptSnapshotPage,
  type KeptSnapshotRow,
  listKeptSnapshots,
  type SandboxRow,
} from "@torpor/db";
import { asTorporError, TorporError } from "@torpor/errors";
import type { StartedSnapshot } from "@torpor/lifecycle";
import type { CollectedData, InspectSnapshotResponse } from "@torpor/proto/hostagent";
import type {
  checkpointInput,
  createSnapshotInput,
  listSnapshotsInput,
  updateSnapshotInput,
} from "../inputs/snapshot.ts";
import { requireAdmin } from "../keys/admin.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import type { BeginOptions } from "./lifecycle.ts";
import { hostOf, ownSandbox } from "./running_sandbox.ts";

/**
 * Begins to take a snapshot of a running or paused sandbox, which goes on as it was.
 * @throws TorporError `sandbox_not_found`, `conflict`, `already_exists` when the name is taken, `permission_denied` for
 * `platform` but by an administrator, `idempotency_mismatch`; `done` rejects with `snapshot_failed`, `no_space` …
 */
export async function createSnapshot(
  api: Api,
  caller: Caller,
  input: z.output<typeof createSnapshotInput>,
  options: BeginOptions = {},
): Promise<StartedSnapshot> {
  const { sandbox_id: sandboxId, name, platform, expires_in_sec: expiresInSec } = input;
  if (platform) requireAdmin(caller, "only an administrator makes platform snapshots");
  const request = { sandboxId, name, platform, expiresInSec };
  const started = await api.lifecycle.startSnapshot(caller.teamId, request, options);
  caller.call.target = started.snapshot.id;
  return started;
}

/** As {@linkcode createSnapshot}, with a generated name. */
export async function checkpointSandbox(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof checkpointInput>,
  options: BeginOptions = {},
): Promise<StartedSnapshot> {
  const request = { sandboxId, expiresInSec: input.expires_in_sec };
  return await api.lifecycle.startSnapshot(caller.teamId, request, options);
}

/**
 * A snapshot that the caller may spawn from: the team's, or the platform's.
 * @param reference its id or name.
 * @throws TorporError `snapshot_not_found`, also for another team's.
 */
export async function visibleSnapshot(api: Api, caller: Caller, reference: string): Promise<KeptSnapshotRow> {
  const snapshot = await findKeptSnapshot(api.database.sql, caller.teamId, reference);
  if (snapshot) return snapshot;
  throw new TorporError("snapshot_not_found", `no snapshot ${reference}`);
}

/** A page of the snapshots that the caller may spawn from. @throws TorporError `invalid_argument` (field `cursor`). */
export async function listSnapshots(
  api: Api,
  caller: Caller,
  input: z.output<typeof listSnapshotsInput>,
): Promise<KeptSnapshotPage> {
  return await listKeptSnapshots(api.database.sql, caller.teamId, input);
}

/**
 * Changes when a snapshot expires.
 * @throws TorporError `snapshot_not_found`; `conflict` when it has failed or is being deleted; `permission_denied` for a
 * platform snapshot, before anything is touched.
 */
export async function updateSnapshot(
  api: Api,
  caller: Caller,
  reference: string,
  input: z.output<typeof updateSnapshotInput>,
): Promise<KeptSnapshotRow> {
  const snapshot = await visibleSnapshot(api, caller, reference);
  if (snapshot.platform) requireAdmin(caller, "only an administrator changes platform snapshots");
  return await api.lifecycle.setSnapshotExpiry(snapshot.id, input.expires_in_sec);
}

/**
 * Deletes a snapshot; repeats by its id are fine. Sandboxes that were spawned from it go on: their host keeps the data
 * that they read until nothing refers to it.
 * @returns confirmed: its host has removed it. Else the deletion goes on by itself.
 * @throws TorporError `snapshot_not_found`; `permission_denied` for a platform snapshot, before anything is touched.
 */
export async function deleteSnapshot(api: Api, caller: Caller, reference: string): Promise<{ confirmed: boolean }> {
  if (await isDeleted(api, caller, reference)) return { confirmed: true };
  const snapshot = await visibleSnapshot(api, caller, reference);
  if (snapshot.platform) requireAdmin(caller, "only an administrator deletes platform snapshots");
  return await api.lifecycle.deleteSnapshot(snapshot.id);
}

async function isDeleted(api: Api, caller: Caller, id: string): Promise<boolean> {
  const snapshot = await getKeptSnapshot(api.database.sql, id);
  return snapshot?.state === "deleted" && snapshot.teamId === caller.teamId;
}

/** Without data to read, ms. */
const INSPECT_BASE_MS = 30_000;

/** What a host need not read faster than: a spinning disk that others use, too. */
const SLOW_DISK_MB_PER_S = 50;

/** Older generations that are still read hold up to as many dead bytes as live ones before they are compacted. */
const STORED_OVER_LIVE = 2;

/** How long a host may take to look into a snapshot, ms; with `verify` it reads all of its data. */
function inspectTimeoutMs({ memoryMb, diskSizeMb }: Pick<SandboxRow, "memoryMb" | "diskSizeMb">, verify: boolean) {
  const readMb = verify ? (memoryMb + diskSizeMb) * STORED_OVER_LIVE : 0;
  return INSPECT_BASE_MS + readMb / SLOW_DISK_MB_PER_S * 1000;
}

/**
 * What a snapshot consists of: its manifest, its extents by source, its generations.
 * @param verify also read all data and compare checksums.
 * @throws TorporError `snapshot_not_found`, `conflict` when it is not ready; `snapshot_corrupt`, `snapshot_missing` when
 * its manifest or tables are damaged; `deadline_exceeded`.
 */
export async function inspectSnapshot(
  api: Api,
  caller: Caller,
  reference: string,
  verify: boolean,
): Promise<InspectSnapshotResponse> {
  const snapshot = await visibleSnapshot(api, caller, reference);
  if (snapshot.state !== "ready") {
    throw new TorporError("conflict", `snapshot ${snapshot.name} is ${snapshot.state}`);
  }
  const host = await hostOf(api, snapshot);
  return await host.rpc.inspectSnapshot(
    { snapshotId: snapshot.id, verify },
    { timeoutMs: inspectTimeoutMs(snapshot, verify) },
  );
}

/**
 * What the newest snapshot of a sandbox consists of; as {@linkcode inspectSnapshot}.
 * @throws TorporError `sandbox_not_found`, `snapshot_not_found` before its first pause.
 */
export async function inspectSandbox(
  api: Api,
  caller: Caller,
  sandboxId: string,
  verify: boolean,
): Promise<InspectSnapshotResponse> {
  const sandbox = await ownSandbox(api, caller, sandboxId);
  if (!sandbox.snapshot) throw new TorporError("snapshot_not_found", `sandbox ${sandboxId} was never paused`);
  const host = await hostOf(api, sandbox);
  return await host.rpc.inspectSnapshot({ sandboxId, verify }, { timeoutMs: inspectTimeoutMs(sandbox, verify) });
}

/** What one host has collected, or why it did not answer. */
export interface HostCollection {
  hostId: string;
  errorCode: string;
  bytes: bigint;
  collected: CollectedData[];
}

/**
 * Has all hosts remove the data that nothing refers to. A host that does not answer is part of the answer.
 * @throws TorporError `permission_denied` but for an administrator; `unavailable` when the scheduler cannot be reached.
 */
export async function collectSnapshots(api: Api, caller: Caller, dryRun: boolean): Promise<HostCollection[]> {
  requireAdmin(caller, "only an administrator collects garbage");
  const { hosts } = await api.scheduler.listHosts({});
  return await Promise.all(hosts.map(async ({ hostId, address }) => {
    try {
      const { bytes, collected } = await api.hosts.at(address).rpc.collectSnapshots({ dryRun });
      return { hostId, errorCode: "", bytes, collected };
    } catch (thrown) {
      return { hostId, errorCode: asTorporError(thrown).code, bytes: 0n, collected: [] };
    }
  }));
}
