/** Failures of the native layer. @module */
import { constants } from "node:os";

const errnoNames = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

/**
 * A system call failed. `code` is stable: `native_` and the errno's name in lower case (`native_enoent`, `native_enospc`), or
 * `native_library` when libtorpor.so cannot be loaded.
 */
export class NativeError extends Error {
  override readonly name: string = "NativeError";
  readonly code: string;

  /**
   * @param operation what was tried, such as `memfdCreate`
   * @param errno the positive error number, 0 if there is none
   */
  constructor(readonly operation: string, readonly errno: number, options?: ErrorOptions & { detail?: string }) {
    const errnoName = errnoNames.get(errno) ?? `errno_${errno}`;
    super(`${operation}: ${errno ? errnoName : "failed"}${options?.detail ? ` (${options.detail})` : ""}`, options);
    this.code = errno ? `native_${errnoName.toLowerCase()}` : "native_library";
  }
}

/** Returns `result` as a number, or throws when it is a negative errno. */
export function check(operation: string, result: number | bigint, detail?: string): number {
  const value = Number(result);
  if (value < 0) throw new NativeError(operation, -value, detail === undefined ? undefined : { detail });
  return value;
}

/** The error for wrong arguments: as the kernel would say it. */
export function invalidArgument(operation: string, detail: string): NativeError {
  return new NativeError(operation, constants.errno.EINVAL, { detail });
}
