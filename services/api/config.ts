import { z } from "zod";

/** The environment variables of the service. */
export const apiConfigShape = {
  TORPOR_LISTEN: z.string().default("http://127.0.0.1:7070"),
  /** What services show each other, and what exporters of spans show the receiver. */
  TORPOR_INTERNAL_TOKEN: z.string().min(16),
  DATABASE_URL: z.string(),
  TORPOR_SCHEDULER_URL: z.string(),
  /** Asked for its status only. */
  TORPOR_RECONCILER_URL: z.string().optional(),
  /** How many traces are kept. */
  TORPOR_TRACE_RETENTION: z.coerce.number().int().min(1).max(1_000_000).default(1000),
};

/** {@linkcode apiConfigShape} as it is read. */
export type ApiConfig = z.infer<z.ZodObject<typeof apiConfigShape>>;
