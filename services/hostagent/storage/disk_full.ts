import { NativeError } from "@torpor/ffi";

const FULL = new Set(["native_enospc", "native_edquot", "ENOSPC", "EDQUOT"]);

/** Whether something failed because the disk, or what may be used of it, is full. */
export function isDiskFull(error: unknown): boolean {
  if (error instanceof NativeError) return FULL.has(error.code);
  // Deno's own file errors carry the errno's name.
  return error instanceof Error && "code" in error && typeof error.code === "string" && FULL.has(error.code);
}
