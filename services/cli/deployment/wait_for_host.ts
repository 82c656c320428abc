import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { openApi } from "../client/api.ts";
import type { Deployment } from "./deployment.ts";
import { readTextIfThere } from "./files.ts";

const POLL_MS = 50;

/**
 * Waits until this machine's host agent has registered, so that a sandbox can be placed on it: the agent listens before
 * the scheduler knows it.
 * @throws TorporError `unavailable` when it has not after `timeoutMs`.
 */
export async function waitForHost(deployment: Deployment, timeoutMs: number): Promise<void> {
  const { paths } = deployment;
  const key = (await Deno.readTextFile(paths.apiKey)).trim();
  using api = openApi({ url: deployment.apiUrl, key });
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const hostId = (await readTextIfThere(join(paths.home, "host-id")))?.trim();
    const { hosts } = await api.hosts.listHosts({});
    if (hosts.some((host) => host.hostId === hostId && host.state === "ready")) return;
    if (performance.now() > deadline) {
      throw new TorporError("unavailable", "this machine's host agent has not registered at the scheduler", {
        hint: "./torpor logs hostagent scheduler",
      });
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
