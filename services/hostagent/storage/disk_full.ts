import { newId } from "@torpor/ids";
import { NativeError } from "@torpor/ffi";
import { removeIfPresent, writeAndSync } from "./durable_file.ts";

const FULL = new Set(["native_enospc", "native_edquot", "ENOSPC", "EDQUOT"]);

/** Whether something failed because the disk, or what may be used of it, is full. */
export function isDiskFull(error: unknown): boolean {
  if (error instanceof NativeError) return FULL.has(error.code);
  // Deno's own file errors carry the errno's name.
  return error instanceof Error && "code" in error && typeof error.code === "string" && FULL.has(error.code);
}

/** What a VMM writes at once of its state. */
const PROBE_BYTES = 2 ** 20;

/**
 * Another program says only that it could not write: looks whether the disk is full.
 * @param directory where it has written.
 * @throws what writing there meets now, as ENOSPC; else `error`.
 */
export async function explainFailedWrite(directory: string, error: unknown): Promise<never> {
  const probe = `${directory}/${newId()}.probe`;
  try {
    await writeAndSync(probe, new Uint8Array(PROBE_BYTES));
  } catch (found) {
    if (isDiskFull(found)) throw found;
  } finally {
    await removeIfPresent(probe);
  }
  throw error;
}
