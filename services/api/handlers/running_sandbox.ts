import { trace } from "@opentelemetry/api";
import { getHost, getSandbox, type SandboxRow } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { isLive } from "@torpor/lifecycle";
import type { HostConnection } from "../hosts/host_pool.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";

/**
 * A sandbox of the caller's team. Another team's is not told from one that does not exist.
 * @param options.deleted a deleted one is found too. Default false.
 * @throws TorporError `sandbox_not_found`.
 */
export async function ownSandbox(
  api: Api,
  caller: Caller,
  sandboxId: string,
  options: { deleted?: boolean } = {},
): Promise<SandboxRow> {
  trace.getActiveSpan()?.setAttribute("torpor.sandbox_id", sandboxId);
  caller.call.target = sandboxId;
  const row = await getSandbox(api.database.sql, caller.teamId, sandboxId);
  if (row && (row.state !== "deleted" || options.deleted)) return row;
  throw new TorporError("sandbox_not_found", `no sandbox ${sandboxId}`);
}

/**
 * A running sandbox of the caller's team and the connection to its host.
 * @param options.activity false: looking at it does not count as use. Default true.
 * @throws TorporError `sandbox_not_found`; `conflict` when it does not run, with what to do as the hint.
 */
export async function runningSandbox(
  api: Api,
  caller: Caller,
  sandboxId: string,
  options: { activity?: boolean } = {},
): Promise<{ row: SandboxRow; host: HostConnection }> {
  const row = await ownSandbox(api, caller, sandboxId);
  if (!isLive(row)) {
    throw new TorporError("conflict", `sandbox ${sandboxId} is ${row.state}`, { hint: hintFor(row) });
  }
  if (options.activity ?? true) api.lifecycle.touch(sandboxId);
  return { row, host: await hostOf(api, row) };
}

/** The connection to the host of a sandbox. @throws TorporError `host_not_found` when it has none yet. */
export async function hostOf(api: Api, row: Pick<SandboxRow, "id" | "hostId">): Promise<HostConnection> {
  const host = row.hostId === null ? undefined : await getHost(api.database.sql, row.hostId);
  if (!host) throw new TorporError("host_not_found", `${row.id} has no host`);
  return api.hosts.at(host.address);
}

/** What to do about a sandbox that does not run. */
function hintFor({ id, state }: SandboxRow): string | undefined {
  switch (state) {
    case "pending":
    case "starting":
    case "resuming":
      return "wait until it runs";
    case "pausing":
      return `wait until it is paused, then resume it: POST /v1/sandboxes/${id}/resume`;
    case "snapshotting":
      return "wait until its checkpoint is taken, then resume it";
    case "paused":
      return `resume it first: POST /v1/sandboxes/${id}/resume`;
    case "lost":
      return "its host is not heard; it comes back when the host does";
    case "failed":
      return "delete it; `reason` says why it failed";
    default:
      return undefined;
  }
}
