import type { HomePaths } from "@torpor/config";
import { listProcesses, type ProcessInfo } from "../process/process_table.ts";

/**
 * Processes of other data directories that use something below this one, as a shared cache ($TORPOR_CACHE) or built
 * code: they would break if it were deleted.
 */
export function cacheUsers(paths: HomePaths): ProcessInfo[] {
  const below = (path: string | undefined) => path === paths.home || path?.startsWith(`${paths.home}/`) === true;
  return listProcesses().filter(({ pid, env }) =>
    pid !== Deno.pid && !below(env.get("TORPOR_HOME")) &&
    (below(env.get("TORPOR_CACHE")) || below(env.get("TORPOR_LIB_DIR")))
  );
}
