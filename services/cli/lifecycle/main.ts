/**
 * The part of `torpor demo` that talks to a running deployment. A process of its own, started with the variables that
 * make Deno export its spans: so the demonstration is one trace, with this program at its root. Options: --json, --keep.
 */
import { asTorporError } from "@torpor/errors";
import { currentTraceId, withSpan } from "@torpor/telemetry";
import { apiTarget, openApi } from "../client/api.ts";
import { exitCodeOf } from "../command/exit_codes.ts";
import { printJson } from "../command/print.ts";
import { Progress } from "../terminal/progress.ts";
import { type LifecycleResult, measureLifecycle } from "./measure.ts";
import { demoJson, demoStory } from "./story.ts";

const MEMORY_MB = 512;
const DIRTY_MB = 128;

/** What a shell reports for a program that SIGINT ended. */
const INTERRUPTED = 130;

const interrupted = new AbortController();

async function demo(json: boolean, keep: boolean): Promise<number> {
  const onInterrupt = () => interrupted.abort();
  Deno.addSignalListener("SIGINT", onInterrupt);
  try {
    using api = openApi(await apiTarget());
    const progress = new Progress();
    let traceId = "";
    const result: LifecycleResult = await withSpan("demo", { "torpor.memory_mb": MEMORY_MB }, async () => {
      traceId = currentTraceId() ?? "";
      const plan = { memoryMb: MEMORY_MB, dirtyMb: DIRTY_MB, keep, signal: interrupted.signal };
      return await measureLifecycle(api, plan, (title, work) => progress.step(title, work));
    });
    if (json) printJson(demoJson(result, traceId));
    else console.log(demoStory(result, traceId, keep));
    return result.statePreserved ? 0 : 1;
  } finally {
    Deno.removeSignalListener("SIGINT", onInterrupt);
  }
}

try {
  Deno.exitCode = await demo(Deno.args.includes("--json"), Deno.args.includes("--keep"));
} catch (thrown) {
  const error = asTorporError(thrown);
  if (interrupted.signal.aborted) Deno.exit(INTERRUPTED);
  console.error(`error: ${error.message} [${error.code}]`);
  if (error.hint) console.error(`hint: ${error.hint}`);
  if (thrown !== error) console.error(thrown);
  Deno.exitCode = exitCodeOf(thrown);
}
