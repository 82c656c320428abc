import type { Api } from "../../../services/cli/client/api.ts";
import { median, timed } from "./median.ts";

const ROUNDS = 3;
const COUNT = 8;

/** From the request to fork a running sandbox of 256 MiB into eight until a command has run in each child. */
export async function benchFork(api: Api): Promise<Record<string, number>> {
  const { sandbox } = await api.sandboxes.createSandbox({ memoryMb: 256 });
  const { sandboxId } = sandbox!;
  const times: number[] = [];
  const answered: number[] = [];
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const started = performance.now();
      const { result, ms } = await timed(() => api.sandboxes.forkSandbox({ sandboxId, count: COUNT }));
      const ids = result.children.map((child) => child.sandboxId);
      await Promise.all(ids.map((id) => api.sandboxes.exec({ sandboxId: id, cmd: "true", timeoutSec: 60 })));
      times.push(ms);
      answered.push(performance.now() - started);
      await Promise.all(ids.map((id) => api.sandboxes.deleteSandbox({ sandboxId: id })));
    }
  } finally {
    await api.sandboxes.deleteSandbox({ sandboxId });
  }
  return { fork8_ms: median(times), fork8_to_first_exec_ms: median(answered) };
}
