import { runLines } from "../../../services/cli/tool/run_tool.ts";
import type { ModelReport } from "./run_model.ts";

const WORKER = new URL("./worker.ts", import.meta.url).pathname;

/**
 * Spreads histories over processes, each with a database of its own.
 * @param onSequence called after each history, with how many there were.
 * @param signal ends them; what they had done is not reported.
 */
export async function runWorkers(
  options: { sequences: number; workers: number; seed: number },
  onSequence: (done: number) => void,
  signal: AbortSignal,
): Promise<ModelReport[]> {
  const { sequences, workers, seed } = options;
  let done = 0;
  const share = (index: number) => Math.floor((sequences + index) / workers);
  return await Promise.all(Array.from({ length: workers }, async (_, index) => {
    const argv = [Deno.execPath(), "run", "--quiet", "--allow-all", "--no-check", WORKER];
    const lines: string[] = [];
    const { success } = await runLines(
      [...argv, String(share(index)), String(seed + index)],
      { signal },
      (line, stream) => {
        if (line === "sequence") onSequence(done += 1);
        else if (stream === "stdout" || !line.startsWith("{")) lines.push(line);
      },
    );
    const report = lines.at(-1);
    if (success && report?.startsWith("{")) return JSON.parse(report) as ModelReport;
    return { seed: seed + index, sequences: 0, violations: [`the process ended: ${lines.slice(-20).join("\n")}`] };
  }));
}
