import { join } from "@std/path";

/**
 * Waits until no other builder works on this cache, and keeps others out until disposed. The lock is the kernel's
 * (flock), so a builder that dies lets go of it.
 */
export async function lockCache(cacheDirectory: string): Promise<AsyncDisposable> {
  await Deno.mkdir(cacheDirectory, { recursive: true });
  const file = await Deno.open(join(cacheDirectory, ".images.lock"), { create: true, write: true });
  try {
    await file.lock(true);
  } catch (error) {
    file.close();
    throw error;
  }
  return {
    [Symbol.asyncDispose]: async () => {
      await file.unlock();
      file.close();
    },
  };
}
