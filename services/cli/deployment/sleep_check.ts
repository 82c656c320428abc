import { asTorporError } from "@torpor/errors";
import { openApi } from "../client/api.ts";
import type { Progress } from "../terminal/progress.ts";
import type { Deployment } from "./deployment.ts";
import { readTextIfThere } from "./files.ts";

/** The size that most sandboxes have: what this one touches when it wakes is fetched ahead for others of its size. */
const MEMORY_MB = 512;

/**
 * Lets a sandbox sleep and wake in a deployment whose host agent has just been started, so that whoever uses it next finds
 * it proven, and its code warm. A failure is told, and left to the command that needs a sandbox.
 */
export async function checkSleep(deployment: Deployment, progress: Progress): Promise<void> {
  const key = (await readTextIfThere(deployment.paths.apiKey))?.trim() ?? "";
  using api = openApi({ url: deployment.apiUrl, key });
  try {
    await progress.step("check: a sandbox sleeps and wakes", async (report) => {
      report("create");
      const { sandbox } = await api.sandboxes.createSandbox({ memoryMb: MEMORY_MB });
      const { sandboxId } = sandbox!;
      try {
        await api.sandboxes.exec({ sandboxId, cmd: "true", timeoutSec: 30 });
        report("pause");
        await api.sandboxes.pauseSandbox({ sandboxId });
        report("resume");
        await api.sandboxes.resumeSandbox({ sandboxId });
        await api.sandboxes.exec({ sandboxId, cmd: "true", timeoutSec: 30 });
      } finally {
        await api.sandboxes.deleteSandbox({ sandboxId });
      }
    });
  } catch (error) {
    const { code, message } = asTorporError(error);
    progress.note(`the check failed: ${message} [${code}]`);
  }
}
