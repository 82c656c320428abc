import { TorporError } from "@torpor/errors";

/** What a server answered, with the id of the trace that its handling made (undefined when it did not say). */
export interface Traced<T> {
  response: T;
  traceId: string | undefined;
  /** From the call to the answer, milliseconds. */
  ms: number;
}

/** Makes a unary call and notes its trace id and how long it took. */
export async function traced<T>(
  call: (options: { onHeader(headers: Headers): void }) => Promise<T>,
): Promise<Traced<T>> {
  let traceId: string | undefined;
  const started = performance.now();
  const response = await call({ onHeader: (headers) => traceId = headers.get("x-trace-id") ?? undefined });
  return { response, traceId, ms: performance.now() - started };
}

/** The message `value` of an answer. @throws TorporError `internal` when the server left it out. */
export function required<T>(value: T | undefined, field: string): T {
  if (value === undefined) throw new TorporError("internal", `the server's answer has no ${field}`);
  return value;
}
