import type { MiddlewareHandler } from "hono";
import { type Database, getKeptAnswer, keepAnswer, type KeptAnswer } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { claimRequest, requestHash } from "@torpor/lifecycle";
import { parseInput } from "../inputs/parse.ts";
import { idempotencyHeader } from "../inputs/sandbox.ts";
import type { RestEnvironment } from "./environment.ts";
import type { PathTable } from "./path_table.ts";

/** A larger answer is not kept: its request can be repeated without a key only. */
const MAX_KEPT_CHARS = 1024 * 1024;

/**
 * Lets an `Idempotency-Key` have a POST carried out once: repeats get the first answer, whatever it was, for a day. For
 * requests that begin no lifecycle operation; those have their answer in the journal. The key is taken before the work
 * begins, so that a service that dies in between has it done at most once: a repeat is then told that the outcome is
 * unknown.
 * @param exempt paths that do it themselves, that stream, or whose answer is a secret that must not be kept.
 */
export function answerOnce(
  database: Database,
  paths: PathTable,
  exempt: ReadonlySet<string>,
): MiddlewareHandler<RestEnvironment> {
  return async (c, next) => {
    const header = c.req.header("idempotency-key");
    const template = paths.find(c.req.path)?.template;
    if (c.req.method !== "POST" || header === undefined || template === undefined || exempt.has(template)) {
      return await next();
    }
    const { "idempotency-key": name } = parseInput(idempotencyHeader, { "idempotency-key": header });
    const key = { teamId: c.get("caller").teamId, key: name! };
    const hash = await requestHash(c.req.method, c.req.url.replace(/^[a-z]+:\/\/[^/]*/i, ""), await c.req.text());
    const used = await claimRequest(database.sql, { ...key, requestHash: hash }, "Idempotency-Key");
    if (!used) {
      await next();
      return await keepAnswer(database.sql, key, await answerOf(c.res));
    }
    const answer = await getKeptAnswer(database.sql, key);
    if (!answer) throw unknown();
    c.res = new Response(answer.body === "" ? null : answer.body, {
      status: answer.status,
      headers: { ...(answer.type === "" ? {} : { "content-type": answer.type }), "idempotent-replayed": "true" },
    });
  };
}

async function answerOf(response: Response): Promise<KeptAnswer> {
  const body = await response.clone().text();
  if (body.length <= MAX_KEPT_CHARS) {
    return { status: response.status, type: response.headers.get("content-type") ?? "", body };
  }
  const message = "the first answer was too large to be kept";
  return { status: 409, type: "application/json", body: JSON.stringify({ code: "conflict", message }) };
}

function unknown(): TorporError {
  return new TorporError("conflict", "the first request with this Idempotency-Key has no answer yet", {
    hint: "it may be under way; if its service died, nobody knows what it has done: look, then use another key",
    retryAfterSec: 1,
  });
}
