import { NativeError } from "@torpor/ffi";
import { type ErrorCode, TorporError } from "@torpor/errors";

const FULL = new Set(["native_enospc", "native_edquot", "ENOSPC", "EDQUOT"]);

/**
 * What a failed operation tells its caller: a TorporError as it is, a full disk as `no_space`, anything else as
 * `fallback` with the original as its cause.
 */
export function hostError(thrown: unknown, fallback: ErrorCode, message: string): TorporError {
  if (thrown instanceof TorporError) return thrown;
  if (FULL.has(errorCode(thrown))) {
    return new TorporError("no_space", `${message}: the host's disk is full`, { cause: thrown });
  }
  return new TorporError(fallback, message, { cause: thrown });
}

function errorCode(thrown: unknown): string {
  if (thrown instanceof NativeError) return thrown.code;
  // Deno's own file errors carry the errno's name.
  const code = thrown instanceof Error && "code" in thrown ? thrown.code : "";
  return typeof code === "string" ? code : "";
}
