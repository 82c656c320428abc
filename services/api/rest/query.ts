import { z } from "@hono/zod-openapi";

/** An integer in a query string. */
export function integerQuery(min: number, max: number) {
  return z.string().regex(/^[0-9]{1,10}$/, "must be an integer").transform(Number)
    .pipe(z.int().min(min).max(max))
    .openapi({ type: "integer", minimum: min, maximum: max });
}

/** `true` or `false` in a query string. */
export const booleanQuery = z.enum(["true", "false"]).transform((text) => text === "true").openapi({ type: "boolean" });

/** `?verify=true` has a snapshot's data read and checked. */
export const verifyQuery = z.strictObject({
  verify: booleanQuery.default(false).openapi({
    type: "boolean",
    default: false,
    description: "Also read all data and compare checksums: takes as long as reading all of it.",
  }),
});

/** `?wait=false` answers a lifecycle call as soon as it has begun. */
export const waitQuery = z.object({
  wait: booleanQuery.default(true).openapi({
    type: "boolean",
    default: true,
    description: "false: answer 202 with the operation as soon as it has begun.",
  }),
});
