/** Waits, ms: between two looks at what no event tells, or as a client before its next try. */
export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
