import type { BeginOptions } from "../handlers/lifecycle.ts";
import { parseInput } from "../inputs/parse.ts";
import { idempotencyInput } from "../inputs/sandbox.ts";

/** The idempotency key of a request that has one. */
export function keyOf(request: { idempotencyKey: string }): BeginOptions {
  if (request.idempotencyKey === "") return {};
  const { idempotency_key } = parseInput(idempotencyInput, { idempotency_key: request.idempotencyKey });
  return { idempotencyKey: idempotency_key };
}
