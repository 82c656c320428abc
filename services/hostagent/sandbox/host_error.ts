import { type ErrorCode, TorporError } from "@torpor/errors";
import { isDiskFull } from "../storage/disk_full.ts";

/**
 * What a failed operation tells its caller: a TorporError as it is, a full disk as `no_space`, anything else as
 * `fallback` with the original as its cause.
 */
export function hostError(thrown: unknown, fallback: ErrorCode, message: string): TorporError {
  if (thrown instanceof TorporError) return thrown;
  if (isDiskFull(thrown)) {
    return new TorporError("no_space", `${message}: the host's disk is full`, {
      hint: "delete sandboxes or snapshots, or collect what nothing refers to (torpor snapshot gc)",
      cause: thrown,
    });
  }
  return new TorporError(fallback, message, { cause: thrown });
}
