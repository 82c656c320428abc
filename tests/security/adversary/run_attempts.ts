import type { Arena } from "./arena.ts";
import type { Attempt, AttemptResult } from "./attempt.ts";

/**
 * Makes attempts, one after the other: several look at what arrives while they are under way.
 * @param onResult each as it ends.
 */
export async function runAttempts(
  arena: Arena,
  attempts: readonly Attempt[],
  onResult: (result: AttemptResult) => void,
  signal?: AbortSignal,
): Promise<AttemptResult[]> {
  const results: AttemptResult[] = [];
  for (const attempt of attempts) {
    if (signal?.aborted) break;
    const result = await runAttempt(arena, attempt);
    onResult(result);
    results.push(result);
  }
  return results;
}

async function runAttempt(arena: Arena, { name, control, attack }: Attempt): Promise<AttemptResult> {
  const began = performance.now();
  const result: AttemptResult = { name, ms: 0 };
  try {
    result.controlFailed = await control(arena);
    await arena.ground.forget();
    result.breach = await attack(arena);
  } catch (error) {
    // Nothing is shown by an attempt that could not be made.
    result.controlFailed ??= error instanceof Error ? error.message : String(error);
  }
  result.ms = Math.round(performance.now() - began);
  return result;
}
