import type { MiddlewareHandler } from "hono";
import type { Database, KeptAnswer } from "@torpor/db";
import { requestHash } from "@torpor/lifecycle";
import { firstAnswer, keepFirstAnswer } from "../idempotency/first_answer.ts";
import { parseInput } from "../inputs/parse.ts";
import { idempotencyHeader } from "../inputs/sandbox.ts";
import type { RestEnvironment } from "./environment.ts";
import type { PathTable } from "./path_table.ts";

/**
 * Lets an `Idempotency-Key` have a POST carried out once: repeats get the first answer, whatever it was, for a day.
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
    const answer = await firstAnswer(database, { ...key, requestHash: hash });
    if (!answer) {
      await next();
      return await keepFirstAnswer(database, key, await answerOf(c.res), ({ code, httpStatus, message }) => {
        return { status: httpStatus, type: "application/json", body: JSON.stringify({ code, message }) };
      });
    }
    c.res = new Response(answer.body === "" ? null : answer.body, {
      status: answer.status,
      headers: { ...(answer.type === "" ? {} : { "content-type": answer.type }), "idempotent-replayed": "true" },
    });
  };
}

async function answerOf(response: Response): Promise<KeptAnswer> {
  const body = await response.clone().text();
  return { status: response.status, type: response.headers.get("content-type") ?? "", body };
}
