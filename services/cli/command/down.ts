import { exists } from "@std/fs";
import type { HomePaths } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import { cacheUsers } from "../deployment/cache_users.ts";
import { deploymentPaths } from "../deployment/deployment.ts";
import { takeDown } from "../deployment/down.ts";
import { removeIfThere } from "../deployment/files.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor down` */
export const down = defineAction({
  name: "down",
  description: "Pause running sandboxes and stop the services and PostgreSQL",
  args: {
    purge: { type: "boolean", description: "Also delete the data directory with all sandboxes and the database" },
    yes: { type: "boolean", alias: "y", description: "Do not ask" },
  },
  async run({ args }) {
    const paths = deploymentPaths();
    if (args.purge) refuseWhileShared(paths);
    if (args.purge && !args.yes) confirmPurge(paths.home);
    const progress = new Progress();
    const result = await takeDown(paths, progress);
    const purged = Boolean(args.purge) && await exists(paths.home);
    if (purged) await progress.step(`deleting ${paths.home}`, () => removeIfThere(paths.home));
    if (args.json) return printJson({ ...result, purged });
    for (const { name, pid } of result.killed) console.log(`${name} (pid ${pid}) did not end by itself: killed.`);
    console.log(result.stopped.length > 0 ? `Stopped ${result.stopped.join(", ")}.` : "Nothing was running.");
  },
});

function refuseWhileShared(paths: HomePaths): void {
  const users = cacheUsers(paths);
  if (users.length === 0) return;
  const homes = [...new Set(users.map(({ env }) => env.get("TORPOR_HOME") ?? "unknown"))].join(", ");
  throw new TorporError(
    "conflict",
    `not deleted: what is in ${paths.home} is in use by other data directories: ${homes}`,
    {
      hint: "stop those first; and look at TORPOR_HOME: is this the one you mean?",
    },
  );
}

function confirmPurge(home: string): void {
  if (!Deno.stdin.isTerminal()) throw new UsageError("--purge deletes all sandboxes: add --yes");
  if (!confirm(`Delete ${home} with all sandboxes, snapshots and the database?`)) Deno.exit(1);
}
