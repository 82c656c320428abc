/** Prints a command's result as one JSON line. bigint is written as a number: all of ours are below 2^53. */
export function printJson(value: unknown): void {
  console.log(JSON.stringify(value, (_key, item) => typeof item === "bigint" ? Number(item) : item));
}
