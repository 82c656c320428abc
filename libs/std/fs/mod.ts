// @std/fs, as much of it as is used: the npm package does not have it.
// Where JSR can be reached, delete this folder and import jsr:@std/fs.

/** True when something is at `path`; false, too, when what should be a directory on the way to it is a file. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (isNothingThere(error)) return false;
    throw error;
  }
}

/** As {@linkcode exists}, at once. */
export function existsSync(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (isNothingThere(error)) return false;
    throw error;
  }
}

function isNothingThere(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory;
}
