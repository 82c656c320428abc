import { z } from "zod";
import { readConfig } from "./read_config.ts";

let scale: number | undefined;

/**
 * A deadline for this machine: `ms` times `TORPOR_TIMEOUT_SCALE` (1 to 100, default 1). Deadlines are chosen for real
 * hardware; a machine that is itself emulated needs ten times as long, and nothing else about it differs.
 * @throws TorporError `config_invalid` when the variable is no such number.
 */
export function scaledTimeoutMs(ms: number): number {
  scale ??= readConfig({ TORPOR_TIMEOUT_SCALE: z.coerce.number().min(1).max(100).default(1) }).TORPOR_TIMEOUT_SCALE;
  return Math.round(ms * scale);
}
