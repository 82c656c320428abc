import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { once } from "node:events";
import { join } from "@std/path";
import type { HomePaths } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import { openAddressFetch, parseAddress } from "@torpor/rpc";
import { isAlive, listProcesses, type ProcessInfo, readProcess } from "../process/process_table.ts";
import type { Deployment } from "./deployment.ts";
import { readTextIfThere, rotateLog } from "./files.ts";
import { REPOSITORY } from "./repository.ts";
import { type ServiceDefinition, serviceEnvironment, type ServiceName } from "./services.ts";

/** The processes of this data directory's services. The process table is the truth: there are no pid files to be stale. */
export function findServices(paths: HomePaths): { name: string; process: ProcessInfo }[] {
  return listProcesses().flatMap((process) => {
    const name = process.env.get("TORPOR_SERVICE");
    const home = process.env.get("TORPOR_DEPLOYMENT") ?? process.env.get("TORPOR_HOME");
    const ours = name !== undefined && home === paths.home &&
      process.argv.some((argument) => argument.endsWith(`/services/${name}/main.ts`));
    return ours ? [{ name, process }] : [];
  });
}

/** The log file of a service. */
export function logFile(paths: HomePaths, name: ServiceName): string {
  return join(paths.logs, `${name}.log`);
}

/** Starts a service in a session of its own, with its output in its log file; it outlives this process. */
export async function startService(deployment: Deployment, service: ServiceDefinition): Promise<ProcessInfo> {
  const file = logFile(deployment.paths, service.name);
  await rotateLog(file);
  const log = openSync(file, "a", 0o600);
  const run = ["run", "--quiet", "--frozen", "--no-prompt", "--config", join(REPOSITORY, "deno.json")];
  const child = spawn(Deno.execPath(), [...run, ...service.permissions, service.entry], {
    cwd: deployment.paths.home,
    env: serviceEnvironment(deployment, service),
    detached: true,
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  await once(child, "spawn");
  child.unref();
  const process = readProcess(child.pid!);
  if (!process) throw await startFailure(deployment.paths, service.name);
  return process;
}

/**
 * Waits until a service answers /readyz.
 * @throws TorporError `unavailable` with the end of its log when it ends or is not ready after `timeoutMs`.
 */
export async function waitUntilReady(
  deployment: Deployment,
  service: ServiceDefinition,
  process: ProcessInfo,
  timeoutMs: number,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!await isReady(service.address)) {
    if (!isAlive(process) || performance.now() > deadline) throw await startFailure(deployment.paths, service.name);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** True when the service at this address answers that it can work. */
export async function isReady(address: string): Promise<boolean> {
  using http = openAddressFetch(parseAddress(address));
  try {
    const response = await http.fetch(`${http.baseUrl}/readyz`, { signal: AbortSignal.timeout(5000) });
    await response.body?.cancel();
    return response.ok;
  } catch (error) {
    // Refused, no socket file yet, reset, or no answer: all mean not ready.
    if (error instanceof TypeError || error instanceof DOMException || error instanceof Deno.errors.NotFound) {
      return false;
    }
    throw error;
  }
}

async function startFailure(paths: HomePaths, name: ServiceName): Promise<TorporError> {
  const file = logFile(paths, name);
  const lines = (await readTextIfThere(file) ?? "").trimEnd().split("\n").slice(-8).join("\n");
  return new TorporError("unavailable", `${name} did not become ready; the end of its log:\n${lines}`, {
    hint: `see ${file}`,
  });
}
