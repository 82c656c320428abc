import { type Database, getKeptAnswer, keepAnswer, type KeptAnswer } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { claimRequest } from "@torpor/lifecycle";

type IdempotentRequest = Parameters<typeof claimRequest>[1];

/** A larger answer is not kept: its request can be repeated without a key only. */
const MAX_KEPT_CHARS = 1024 * 1024;

/**
 * Takes the key of a request that begins no lifecycle operation; those have their answer in the journal. The key is taken
 * before the work begins, so that a service that dies in between has it done at most once: a repeat is then told that the
 * outcome is unknown.
 * @returns undefined for the first request, whose answer goes to {@linkcode keepFirstAnswer}; else the first one's answer.
 * @throws `idempotency_mismatch`; `conflict` while the first request has no answer.
 */
export async function firstAnswer(database: Database, request: IdempotentRequest): Promise<KeptAnswer | undefined> {
  if (!await claimRequest(database.sql, request, "Idempotency-Key")) return undefined;
  const answer = await getKeptAnswer(database.sql, request);
  if (answer) return answer;
  throw new TorporError("conflict", "the first request with this Idempotency-Key has no answer yet", {
    hint: "it may be under way; if its service died, nobody knows what it has done: look, then use another key",
    retryAfterSec: 1,
  });
}

/**
 * Keeps what the first request was answered with, whatever it was.
 * @param tooLarge what repeats get instead of an answer that is too large.
 */
export async function keepFirstAnswer(
  database: Database,
  key: Pick<IdempotentRequest, "teamId" | "key">,
  answer: KeptAnswer,
  tooLarge: (error: TorporError) => KeptAnswer,
): Promise<void> {
  const kept = answer.body.length <= MAX_KEPT_CHARS
    ? answer
    : tooLarge(new TorporError("conflict", "the first answer was too large to be kept"));
  await keepAnswer(database.sql, key, kept);
}
