import { z } from "zod";
import { ID_PATTERN } from "@torpor/ids";
import { log } from "@torpor/telemetry";
import { readIfPresent, replaceUnsynced, writeDurably } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import type { VerifiedFile } from "./verify_data.ts";

const id = z.string().regex(ID_PATTERN);

const stateSchema = z.strictObject({
  schema: z.literal(1),
  /** When the last pass over everything began, or the one that is under way. */
  began_at_ms: z.number().int().nonnegative(),
  /** The last snapshot, in the order of ids, that the pass under way has read; null: none is under way. */
  cursor: z.union([id, z.literal("")]).nullable(),
  damaged: z.array(z.strictObject({
    snapshot_id: id,
    file: z.enum(["manifest.json", "state", "memory.header", "disk.header", "memory.data", "disk.data", "disk.raw"]),
    verdict: z.enum(["damaged", "missing"]),
    bytes: z.number().int().nonnegative(),
  })),
});

/** `verification.json`: how far the verification in the background is, so that a restarted agent goes on there. */
export interface VerificationState {
  beganAtMs: number;
  /** See the schema; empty before the first. */
  cursor: string | null;
  damaged: VerifiedFile[];
}

/** What an earlier agent knew. One that cannot be read says nothing: the next pass finds everything again. */
export async function readVerificationState({ verification }: Layout): Promise<VerificationState> {
  const nothing: VerificationState = { beganAtMs: 0, cursor: null, damaged: [] };
  const text = await readIfPresent(verification);
  if (text === undefined) return nothing;
  try {
    const { began_at_ms, cursor, damaged } = stateSchema.parse(JSON.parse(text));
    return {
      beganAtMs: began_at_ms,
      cursor,
      damaged: damaged.map(({ snapshot_id, ...file }) => ({ snapshotId: snapshot_id, ...file })),
    };
  } catch (error) {
    log("warn", "verification_state_unreadable", {}, error);
    return nothing;
  }
}

/** @param durably false: after a power loss it may be an older one. */
export async function writeVerificationState(
  { verification }: Layout,
  { beganAtMs, cursor, damaged }: VerificationState,
  durably: boolean,
): Promise<void> {
  const text = JSON.stringify({
    schema: 1,
    began_at_ms: beganAtMs,
    cursor,
    damaged: damaged.map(({ snapshotId, file, verdict, bytes }) => ({ snapshot_id: snapshotId, file, verdict, bytes })),
  });
  await (durably ? writeDurably : replaceUnsynced)(verification, text + "\n");
}
