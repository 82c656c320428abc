// One service of a deployment under test, as its own main module runs it, but for the point at which a process dies:
//
//     deno run --allow-all tests/crash/matrix/service.ts NAME DIRECTORY
import { runService } from "@torpor/rpc";
import { observeSpans } from "@torpor/telemetry";
import { readHostAgentConfig } from "../../../services/hostagent/config.ts";
import { startHostAgent } from "../../../services/hostagent/start.ts";
import { CrashFiles, type CrashPoint, type ServiceName } from "./crash_point.ts";
import { sandboxProcesses } from "./sandbox_processes.ts";

const [service, directory] = Deno.args as [ServiceName, string];
const files = new CrashFiles(directory);

observeSpans((span, phase, attributes) => {
  const point = files.armedFor(service);
  if (point?.span !== span || point.phase !== phase || !files.claim()) return;
  const sandboxId = attributes["torpor.sandbox_id"];
  for (const pid of victims(point, typeof sandboxId === "string" ? sandboxId : "")) Deno.kill(pid, "SIGKILL");
});

/** Of a sandbox that the span names only its own processes; a pager that siblings share counts as theirs. */
function victims({ victim }: CrashPoint, sandboxId: string): number[] {
  if (victim === service) return [Deno.pid];
  if (victim !== "vmm" && victim !== "pager") return [Number(Deno.readTextFileSync(files.pidFile(victim)))];
  return sandboxProcesses(directory)
    .filter(({ kind, log }) => kind === victim && (log.includes(sandboxId) || log.includes("/bases/")))
    .map(({ pid }) => pid);
}

Deno.writeTextFileSync(files.pidFile(service), String(Deno.pid));
if (service === "hostagent") await runService(() => startHostAgent(readHostAgentConfig()));
else await import(`../../../services/${service}/main.ts`);
