import { deleteOldAuditRows, foldUsage } from "@torpor/db";
import type { PassContext } from "./pass.ts";

/** Rows that one statement takes: each holds its locks for a few milliseconds. */
const BATCH = 2_000;

/** Batches that a pass takes at most: the rest comes with the next one. */
const MAX_BATCHES = 10;

/** Adds what was used to its days, and forgets audit entries whose time is over. */
export async function keepHouse({ database: { sql }, auditRetentionMs }: PassContext): Promise<void> {
  await inBatches((limit) => foldUsage(sql, limit));
  await inBatches((limit) => deleteOldAuditRows(sql, auditRetentionMs, limit));
}

async function inBatches(work: (limit: number) => Promise<number>): Promise<void> {
  for (let batch = 0; batch < MAX_BATCHES; batch++) {
    if (await work(BATCH) < BATCH) return;
  }
}
