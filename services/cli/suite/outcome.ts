/** How many tests a suite ran, and what the failed ones said. */
export interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
  failures: Failure[];
  /** What a suite reports besides, by name, for `--json`. */
  details?: Record<string, unknown>;
}

/** A failed test. */
export interface Failure {
  name: string;
  message: string;
}

/** An outcome without tests. */
export const NOTHING: Outcome = { passed: 0, failed: 0, skipped: 0, failures: [] };

/** The outcome of both. */
export function addOutcomes(a: Outcome, b: Outcome): Outcome {
  return {
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    skipped: a.skipped + b.skipped,
    failures: [...a.failures, ...b.failures],
  };
}

/** The outcome of one check that either holds (no message) or does not. */
export function single(name: string, message: string | undefined): Outcome {
  if (message === undefined) return { ...NOTHING, passed: 1 };
  return { ...NOTHING, failed: 1, failures: [{ name, message }] };
}
