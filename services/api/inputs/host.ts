import { z } from "@hono/zod-openapi";
import { plainText } from "./text.ts";

/** A host's name, as `torpor host add` gives it. */
const hostName = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 characters of a-z, 0-9 and "-"');

export const createHostTokenInput = z.strictObject({
  name: hostName.openapi({ description: "What the host will be called." }),
  expires_in_sec: z.int().min(60).max(604_800).default(3_600),
}).openapi("CreateHostToken");

export const hostPath = z.object({
  host: plainText(255, 1).openapi({ param: { in: "path" }, description: "Id or name." }),
});

/** What a sandbox demands of its host. */
export const hostLabels = z.record(plainText(63, 1), plainText(63))
  .refine((labels) => Object.keys(labels).length <= 16, "must have at most 16 entries")
  .openapi({ type: "object", additionalProperties: { type: "string" }, example: { zone: "a" } });

export const requiredCapabilities = z.array(plainText(63, 1)).max(16);
