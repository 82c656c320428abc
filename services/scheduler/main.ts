import { z } from "zod";
import { PLACEMENT_STRATEGIES } from "@torpor/db";
import { homePaths, readConfig, torporHome } from "@torpor/config";
import { parseAddress, runService } from "@torpor/rpc";
import { startScheduler } from "./start.ts";

await runService(() => {
  const config = readConfig({
    TORPOR_LISTEN: z.string().default(() => `unix:${homePaths(torporHome()).run}/scheduler.sock`),
    TORPOR_INTERNAL_TOKEN: z.string().min(1),
    DATABASE_URL: z.string(),
    TORPOR_HOST_LISTEN: z.string().optional(),
    TORPOR_CERTIFICATE_LIFE_SEC: z.coerce.number().int().min(5).max(31_536_000).default(86_400),
    TORPOR_PLACEMENT_STRATEGY: z.enum(PLACEMENT_STRATEGIES).default("spread"),
    TORPOR_VCPU_OVERCOMMIT: z.coerce.number().min(1).max(1000).default(8),
    TORPOR_MEMORY_OVERCOMMIT: z.coerce.number().min(0.1).max(100).default(1),
    TORPOR_DISK_OVERCOMMIT: z.coerce.number().min(0.1).max(1000).default(4),
    TORPOR_RESERVATION_TTL_MS: z.coerce.number().int().min(1000).default(60_000),
    TORPOR_HEARTBEAT_INTERVAL_MS: z.coerce.number().int().min(100).max(10_000).default(2_000),
  });
  return startScheduler({
    listen: parseAddress(config.TORPOR_LISTEN),
    hostListen: config.TORPOR_HOST_LISTEN ? parseAddress(config.TORPOR_HOST_LISTEN) : undefined,
    certificateLifeMs: config.TORPOR_CERTIFICATE_LIFE_SEC * 1000,
    token: config.TORPOR_INTERNAL_TOKEN,
    databaseUrl: config.DATABASE_URL,
    heartbeatIntervalMs: config.TORPOR_HEARTBEAT_INTERVAL_MS,
    policy: {
      strategy: config.TORPOR_PLACEMENT_STRATEGY,
      vcpuOvercommit: config.TORPOR_VCPU_OVERCOMMIT,
      memoryOvercommit: config.TORPOR_MEMORY_OVERCOMMIT,
      diskOvercommit: config.TORPOR_DISK_OVERCOMMIT,
      reservationTtlMs: config.TORPOR_RESERVATION_TTL_MS,
    },
  });
});
