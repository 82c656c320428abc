import { type SandboxRow, sandboxRows } from "@torpor/db";
import { isTransitional } from "@torpor/lifecycle";
import type { SandboxInfo } from "@torpor/proto/hostagent";
import type { Deployment } from "./deployment.ts";
import { sandboxProcesses } from "./sandbox_processes.ts";

/** What is not as it must be once everything has come to rest: a sentence for each disagreement. */
export async function disagreements(deployment: Deployment): Promise<string[]> {
  const { sandboxes } = await deployment.host.listSandboxes({});
  const { snapshots } = await deployment.host.listSnapshots({});
  const rows = await sandboxRows(
    "test",
    () => deployment.database.sql`select * from sandboxes where state <> 'deleted'`,
  );
  const hosted = new Map(sandboxes.map((info) => [info.sandboxId, info]));
  return [
    ...rows.flatMap((row) => aboutSandbox(row, hosted.get(row.id))),
    ...sandboxes.filter(({ sandboxId }) => !rows.some(({ id }) => id === sandboxId))
      .map(({ sandboxId, status }) => `the host has ${sandboxId} (${status}), the database has not`),
    ...await aboutJournal(deployment),
    ...await aboutSnapshots(deployment, snapshots.map(({ snapshot }) => snapshot!.snapshotId)),
    ...await aboutReservations(deployment),
    ...aboutProcesses(deployment, sandboxes),
    ...await aboutFiles(deployment, sandboxes),
  ];
}

function aboutSandbox(row: SandboxRow, info: SandboxInfo | undefined): string[] {
  const about = `${row.id} is ${row.state} (${row.reason}), the host says ${info?.status} (${info?.reason})`;
  if (isTransitional(row.state)) return [about];
  const agree = row.state === "failed" ? info?.status !== "running" : row.state === info?.status;
  const sameSnapshot = row.state !== "paused" || row.snapshot?.id === info?.snapshot?.snapshotId;
  return agree && sameSnapshot ? [] : [about];
}

async function aboutJournal({ database }: Deployment): Promise<string[]> {
  const open = await database.sql<{ id: string; kind: string }[]>`
    select id, kind from operations where state = 'running'
    union all select operation_id, 'fork' from forks where state = 'running'`;
  const halves = await database.sql<{ operationId: string }[]>`
    select operation_id from forks where state = 'failed' and exists (
      select from sandboxes where id = any(child_ids) and state <> 'deleted')`;
  return [
    ...open.map(({ id, kind }) => `${kind} ${id} is open`),
    ...halves.map(({ operationId }) => `fork ${operationId} has failed and has children`),
  ];
}

async function aboutSnapshots({ database }: Deployment, kept: string[]): Promise<string[]> {
  const rows = await database.sql<{ id: string; state: string }[]>`
    select id, state from snapshots where state not in ('deleted', 'failed')`;
  return [
    ...rows.filter(({ id, state }) => state !== "ready" || !kept.includes(id))
      .map(({ id, state }) => `snapshot ${id} is ${state}, the host ${kept.includes(id) ? "has" : "has not"} got it`),
    ...kept.filter((id) => !rows.some((row) => row.id === id)).map((id) => `only the host has snapshot ${id}`),
  ];
}

async function aboutReservations({ database }: Deployment): Promise<string[]> {
  const [sums] = await database.sql<[{ running: number; reserved: number; counted: number }]>`
    select (select coalesce(sum(vcpus), 0)::int from sandboxes where state = 'running') as running,
      (select coalesce(sum(vcpus), 0)::int from reservations) as reserved,
      (select coalesce(sum(reserved_vcpus), 0)::int from hosts) as counted`;
  const { running, reserved, counted } = sums;
  return running === reserved && reserved === counted
    ? []
    : [`${running} vCPUs run, ${reserved} are reserved, the host's sum is ${counted}`];
}

function aboutProcesses({ directory }: Deployment, sandboxes: SandboxInfo[]): string[] {
  const running = sandboxes.filter(({ status }) => status === "running").map(({ sandboxId }) => sandboxId);
  const owned = sandboxProcesses(directory).flatMap(({ kind, log, pid }) => {
    const id = /\/sandboxes\/([^/]+)\//.exec(log)?.[1];
    return id === undefined ? [] : [{ kind, id, pid }];
  });
  return [
    ...owned.filter(({ id }) => !running.includes(id)).map(({ kind, id, pid }) => `${kind} ${pid} of ${id} is left`),
    ...running.filter((id) => owned.filter((one) => one.id === id && one.kind === "vmm").length !== 1)
      .map((id) => `${id} runs without exactly one VMM`),
  ];
}

async function aboutFiles({ directory }: Deployment, sandboxes: SandboxInfo[]): Promise<string[]> {
  const [staging, kept] = await Promise.all([names(`${directory}/staging`), names(`${directory}/sandboxes`)]);
  return [
    ...staging.map((name) => `staging/${name} is left`),
    ...kept.filter((name) => !sandboxes.some(({ sandboxId }) => sandboxId === name))
      .map((name) => `sandboxes/${name} is left`),
  ];
}

async function names(directory: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name);
}
