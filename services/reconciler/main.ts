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
    TORPOR_AUDIT_RETENTION: durationSec(60, 315_360_000).default(90 * 86_400),
    TORPOR_WEBHOOK_ALLOW_PRIVATE: z.enum(["0", "1"]).default("0"),
    TORPOR_WEBHOOK_RETENTION: durationSec(60, 315_360_000).default(604_800),
    TORPOR_WEBHOOK_DISABLE_AFTER: durationSec(60, 315_360_000).default(259_200),
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
    auditRetentionMs: config.TORPOR_AUDIT_RETENTION * 1000,
    webhooks: {
      allowPrivate: config.TORPOR_WEBHOOK_ALLOW_PRIVATE === "1",
      retentionMs: config.TORPOR_WEBHOOK_RETENTION * 1000,
      disableAfterMs: config.TORPOR_WEBHOOK_DISABLE_AFTER * 1000,
    },
  });
});
