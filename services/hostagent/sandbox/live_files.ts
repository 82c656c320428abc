import { removeIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";

/** Removes what only a running VM needs: its disk (the snapshot has its own name for it) and its sockets. */
export async function removeLiveFiles(layout: Layout, sandboxId: string): Promise<void> {
  const { disk, qmpSocket, agentSocket, consoleSocket, pagerSocket } = layout.sandbox(sandboxId);
  for (const path of [disk, qmpSocket, agentSocket, consoleSocket, pagerSocket]) await removeIfPresent(path);
}
