import { z } from "@hono/zod-openapi";
import { ID_PATTERN } from "@torpor/ids";
import { idText } from "./text.ts";

const NAME_PATTERN = /^[a-z0-9][a-z0-9._-]{0,62}$/;
const NAME_RULE = 'must be 1 to 63 characters of a-z, 0-9, ".", "_" and "-"';

/** Id or name of a snapshot. */
export const snapshotReference = z.string().regex(NAME_PATTERN, NAME_RULE).openapi({
  description: "Id or name of a snapshot.",
  example: "python-with-numpy",
});

/** What a snapshot is called. Ids and names never mean two different snapshots. */
const snapshotName = z.string().regex(NAME_PATTERN, NAME_RULE)
  .refine((name) => !ID_PATTERN.test(name), "must not have the form of an id (20 characters of a-z and 0-9)");

/** Ten years. */
const MAX_EXPIRY_SEC = 315_360_000;

const expiresInSec = z.int().min(0).max(MAX_EXPIRY_SEC);

const chosenExpiry = expiresInSec.optional().openapi({
  description: "Seconds until it is deleted by itself; 0: never. Absent: what the deployment does by default.",
  example: 604_800,
});

export const createSnapshotInput = z.strictObject({
  sandbox_id: idText,
  name: snapshotName.openapi({ description: "Unique among the team's.", example: "python-with-numpy" }),
  platform: z.boolean().default(false).openapi({
    description: "Every team may spawn from it. Only for administrators.",
  }),
  expires_in_sec: chosenExpiry,
}).openapi("CreateSnapshot");

export const checkpointInput = z.strictObject({ expires_in_sec: chosenExpiry }).openapi("Checkpoint");

export const updateSnapshotInput = z.strictObject({
  expires_in_sec: expiresInSec.openapi({
    description: "Seconds from now until it is deleted by itself; 0: never.",
    example: 604_800,
  }),
}).openapi("UpdateSnapshot");

export const listSnapshotsInput = z.strictObject({
  limit: z.int().min(1).max(1000).default(100),
  cursor: z.string().max(200).default(""),
});

export const collectSnapshotsInput = z.strictObject({
  dry_run: z.boolean().default(false).openapi({ description: "Tell what would go, and change nothing." }),
}).openapi("CollectSnapshots");
