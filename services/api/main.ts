import { z } from "zod";
import { durationSec, readConfig } from "@torpor/config";
import { parseAddress, runService } from "@torpor/rpc";
import { autoDeleteAfterSec, FOR_EVER, onTtl, timeoutSec, ttlSec } from "./inputs/sandbox.ts";
import { PORT_DEFAULTS } from "./ports/mod.ts";
import { startApi } from "./start.ts";

await runService(() => {
  const config = readConfig({
    TORPOR_LISTEN: z.string().default("http://127.0.0.1:7070"),
    TORPOR_INTERNAL_TOKEN: z.string().min(1),
    DATABASE_URL: z.string(),
    TORPOR_SCHEDULER_URL: z.string(),
    TORPOR_RECONCILER_URL: z.string().optional(),
    TORPOR_TRACE_RETENTION: z.coerce.number().int().min(1).max(1_000_000).default(1_000),
    TORPOR_SNAPSHOT_RETENTION: durationSec(60, 315_360_000).optional(),
    TORPOR_SANDBOX_TIMEOUT_SEC: z.coerce.number().pipe(timeoutSec).default(FOR_EVER.timeoutSec),
    TORPOR_SANDBOX_AUTO_DELETE_AFTER_SEC: z.coerce.number().pipe(autoDeleteAfterSec).default(
      FOR_EVER.autoDeleteAfterSec,
    ),
    TORPOR_SANDBOX_TTL_SEC: z.coerce.number().pipe(ttlSec).default(FOR_EVER.ttlSec),
    TORPOR_SANDBOX_ON_TTL: onTtl.default(FOR_EVER.onTtl),
    TORPOR_DOMAIN: z.string().toLowerCase().regex(
      /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/,
      "must be a domain name without a port",
    ).max(200).default(PORT_DEFAULTS.domain),
    TORPOR_TRUST_FORWARDED: z.enum(["0", "1"]).default("0"),
    TORPOR_PORT_CONNECTIONS: z.coerce.number().int().min(1).max(256).default(PORT_DEFAULTS.perSandbox),
    TORPOR_WEBHOOK_ALLOW_PRIVATE: z.enum(["0", "1"]).default("0"),
  });
  return startApi({
    listen: parseAddress(config.TORPOR_LISTEN),
    token: config.TORPOR_INTERNAL_TOKEN,
    databaseUrl: config.DATABASE_URL,
    schedulerUrl: config.TORPOR_SCHEDULER_URL,
    reconcilerUrl: config.TORPOR_RECONCILER_URL,
    traceRetention: config.TORPOR_TRACE_RETENTION,
    snapshotRetentionSec: config.TORPOR_SNAPSHOT_RETENTION,
    ports: {
      domain: config.TORPOR_DOMAIN,
      trustForwarded: config.TORPOR_TRUST_FORWARDED === "1",
      perSandbox: config.TORPOR_PORT_CONNECTIONS,
    },
    allowPrivateWebhooks: config.TORPOR_WEBHOOK_ALLOW_PRIVATE === "1",
    lifetimes: {
      timeoutSec: config.TORPOR_SANDBOX_TIMEOUT_SEC,
      autoDeleteAfterSec: config.TORPOR_SANDBOX_AUTO_DELETE_AFTER_SEC,
      ttlSec: config.TORPOR_SANDBOX_TTL_SEC,
      onTtl: config.TORPOR_SANDBOX_ON_TTL,
    },
  });
});
