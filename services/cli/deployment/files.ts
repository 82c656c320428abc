/** True for the error of a file that does not exist. */
export function isNotFound(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound;
}

/** The text of a file, or undefined when there is none. */
export async function readTextIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Deletes a file or a directory with all that is in it; nothing there is fine. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

const ROTATE_BYTES = 8 * 1024 * 1024;

/** Moves a log that has grown beyond 8 MiB aside, over the one before it. */
export async function rotateLog(file: string): Promise<void> {
  try {
    if ((await Deno.stat(file)).size > ROTATE_BYTES) await Deno.rename(file, `${file}.1`);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}
