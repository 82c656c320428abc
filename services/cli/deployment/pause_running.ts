import type { HomePaths } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import { SandboxState } from "@torpor/proto/torpor";
import { type Api, localApiTarget, openApi } from "../client/api.ts";
import { listSandboxes } from "../client/list_sandboxes.ts";
import type { Progress, Report } from "../terminal/progress.ts";

/** Each pause writes a sandbox's memory to disk: more at a time would only wait for each other. */
const CONCURRENCY = 2;

/**
 * Pauses the running sandboxes of a data directory through its API, so that the database knows them as paused when it
 * is stopped. What cannot be paused this way is left to the host agent, which pauses the rest when it stops.
 */
export async function pauseRunning(paths: HomePaths, progress: Progress): Promise<void> {
  const { url, key } = await localApiTarget(paths);
  if (!url || !key) return;
  using api = openApi({ url, key });
  const ids = await runningIds(api);
  if (ids.length === 0) return;
  await progress.step(`pausing ${ids.length} running sandbox${ids.length === 1 ? "" : "es"}`, async (report) => {
    const queue = ids.values();
    await Promise.all(Array.from({ length: CONCURRENCY }, async () => {
      for (const id of queue) await pause(api, id, report);
    }));
  });
}

async function runningIds(api: Api): Promise<string[]> {
  try {
    const sandboxes = await Array.fromAsync(listSandboxes(api, [SandboxState.RUNNING]));
    return sandboxes.map((sandbox) => sandbox.sandboxId);
  } catch (error) {
    // The api, or what it needs, does not work: stopping must, all the same.
    if (error instanceof TorporError) return [];
    throw error;
  }
}

async function pause(api: Api, sandboxId: string, report: Report): Promise<void> {
  try {
    await api.sandboxes.pauseSandbox({ sandboxId });
  } catch (error) {
    if (!(error instanceof TorporError)) throw error;
    report(`${sandboxId} is left to the host agent: ${error.message}`);
  }
}
