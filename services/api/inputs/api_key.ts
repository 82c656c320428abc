import { z } from "@hono/zod-openapi";
import { SCOPES } from "../keys/access.ts";
import { teamId } from "./team.ts";
import { plainText } from "./text.ts";

/** Ten years. */
const MAX_EXPIRY_SEC = 315_360_000;

export const createApiKeyInput = z.strictObject({
  name: plainText(100, 1).openapi({ description: "What it is for.", example: "nightly build" }),
  scopes: z.array(z.enum(SCOPES)).min(1).max(SCOPES.length).optional().openapi({
    description: "What it may do: nothing that the caller's own key may not. Absent: as that.",
    example: ["sandbox:read", "sandbox:write"],
  }),
  expires_in_sec: z.int().min(0).max(MAX_EXPIRY_SEC).default(0).openapi({
    description: "Seconds from now until it ends; 0: never.",
  }),
  team_id: teamId.optional().openapi({ description: "Only for administrators: another team's." }),
}).openapi("CreateApiKey");

export const apiKeyQuery = z.strictObject({ team_id: teamId.optional() });
