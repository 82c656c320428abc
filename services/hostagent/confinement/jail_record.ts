import { z } from "zod";

const user = z.number().int().positive().nullable();

/** How a restarted agent finds a jail again. */
export const jailRecordSchema = z.strictObject({
  /** Of its cgroup. */
  name: z.string().regex(/^[a-z0-9]+$/),
  /** Null: it runs as the agent's user. */
  vmm_user: user,
  pager_user: user,
});

/** See {@linkcode jailRecordSchema}. */
export type JailRecord = z.infer<typeof jailRecordSchema>;
