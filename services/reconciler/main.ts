import { z } from "zod";
import { durationSec, homePaths, readConfig, torporHome } from "@torpor/config";
import { parseAddress, runService } from "@torpor/rpc";
import { startReconciler } from "./start.ts";

await runService(() => {
  const run = () => homePaths(torporHome()).run;
  const config = readConfig({
    TORPOR_LISTEN: z.string().default(() => `unix:${run()}/reconciler.sock`),
    TORPOR_INTERNAL_TOKEN: z.string().min(1),
    DATABASE_URL: z.string(),
    TORPOR_SCHEDULER_URL: z.string().default(() => `unix:${run()}/scheduler.sock`),
    TORPOR_RECONCILE_INTERVAL_MS: z.coerce.number().int().min(100).max(600_000).default(5_000),
    TORPOR_RECONCILE_GRACE_MS: z.coerce.number().int().min(0).max(600_000).default(5_000),
    TORPOR_HOST_GRACE_MS: z.coerce.number().int().min(0).max(600_000).default(30_000),
    TORPOR_FAILED_RETENTION: durationSec(60, 315_360_000).default(86_400),
  });
  return startReconciler({
    listen: parseAddress(config.TORPOR_LISTEN),
    token: config.TORPOR_INTERNAL_TOKEN,
    databaseUrl: config.DATABASE_URL,
    schedulerUrl: config.TORPOR_SCHEDULER_URL,
    intervalMs: config.TORPOR_RECONCILE_INTERVAL_MS,
    graceMs: config.TORPOR_RECONCILE_GRACE_MS,
    hostGraceMs: config.TORPOR_HOST_GRACE_MS,
    failedRetentionMs: config.TORPOR_FAILED_RETENTION * 1000,
  });
});
