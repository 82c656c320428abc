import {
  compareAndSetState,
  type Queryable,
  type SandboxChanges,
  type SandboxRow,
  type SandboxState,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { canTransition } from "./states.ts";

/**
 * Moves a sandbox to another state by compare-and-set on (id, state, version); the version grows by one.
 * @param row as it was read; the sandbox is left alone when it has changed since.
 * @throws `conflict` when it has changed; `internal` when the table does not allow the step, which is a bug.
 */
export async function transition(
  sql: Queryable,
  row: SandboxRow,
  to: SandboxState,
  changes: SandboxChanges = {},
): Promise<SandboxRow> {
  if (!canTransition(row.state, to)) {
    throw new TorporError("internal", `sandbox ${row.id}: ${row.state} cannot become ${to}`);
  }
  const changed = await compareAndSetState(sql, row, to, changes);
  if (!changed) {
    throw new TorporError("conflict", `sandbox ${row.id} is no longer ${row.state} (version ${row.version})`);
  }
  return changed;
}

/** Moves a sandbox along several states at once; `changes` belong to the last one. */
export async function transitionAlong(
  sql: Queryable,
  row: SandboxRow,
  path: readonly SandboxState[],
  changes: SandboxChanges = {},
): Promise<SandboxRow> {
  let current = row;
  for (const [index, to] of path.entries()) {
    current = await transition(sql, current, to, index === path.length - 1 ? changes : {});
  }
  return current;
}
