import type { OperationKind, SandboxRow } from "@torpor/db";

/** What a host does not need to be faster than: a spinning disk that others use too. */
const SLOW_DISK_MB_PER_S = 50;

/** Without any data to move, ms. A create boots a kernel, under TCG on a busy machine; a delete may wait for a pause. */
const BASE_MS: Record<OperationKind, number> = {
  create: 120_000,
  pause: 60_000,
  resume: 90_000,
  delete: 60_000,
  snapshot: 60_000,
};

/**
 * How long an operation may take before the reconciler asks the host about it, in ms. Every one but create can have to
 * move (or wait for somebody who moves) the guest's whole memory.
 */
export function operationDeadlineMs(kind: OperationKind, sandbox: Pick<SandboxRow, "memoryMb">): number {
  const { ms, msPerMb } = operationDeadline(kind);
  return ms + msPerMb * sandbox.memoryMb;
}

/** The same in parts, ms, and ms for each MiB of the guest's memory. */
export function operationDeadline(kind: OperationKind): { ms: number; msPerMb: number } {
  return { ms: BASE_MS[kind], msPerMb: kind === "create" ? 0 : 1000 / SLOW_DISK_MB_PER_S };
}

/** How long an operation was given, ms: both times are by PostgreSQL's clock, which this process's need not agree with. */
export function allowedMs({ createdAt, deadline }: { createdAt: Date; deadline: Date }): number {
  return Math.max(1_000, deadline.getTime() - createdAt.getTime());
}
