import type { HomePaths } from "@torpor/config";
import { endProcess } from "../process/process_table.ts";
import type { Progress } from "../terminal/progress.ts";
import { hostNetworkOf, MAX_HOSTS, removeHostNetwork } from "./host_network.ts";
import { pauseRunning } from "./pause_running.ts";
import { clusterRuns, stopCluster } from "./postgres.ts";
import { findServices } from "./service_process.ts";
import type { SERVICE_NAMES } from "./services.ts";
import { egressProxies, virtualMachines } from "./virtual_machines.ts";

/** What {@linkcode takeDown} stopped. */
export interface DownResult {
  /** Names of the services that ran. */
  stopped: string[];
  /** Services that did not end in time, and processes that they left behind. */
  killed: { name: string; pid: number }[];
}

/** The host agent pauses its sandboxes first, which writes their memory to disk. */
const HOSTAGENT_STOP_MS = 180_000;
const STOP_MS = 15_000;

/**
 * Stops the services of a data directory and its database server, in an order in which each still reaches those it
 * needs. It needs no record of the start: whatever runs for this data directory is found and stopped.
 */
export async function takeDown(paths: HomePaths, progress: Progress): Promise<DownResult> {
  const result: DownResult = { stopped: [], killed: [] };
  if (findServices(paths).some(({ name }) => name === "api")) await pauseRunning(paths, progress);
  // The reconciler goes first: it would take a host that leaves for one that is lost.
  for (const name of ["reconciler", "hostagent", "scheduler", "api"] satisfies typeof SERVICE_NAMES[number][]) {
    const processes = findServices(paths).filter((service) => service.name === name);
    if (processes.length === 0) continue;
    await progress.step(`stopping ${name}`, async () => {
      for (const { process } of processes) {
        const outcome = await endProcess(process, name === "hostagent" ? HOSTAGENT_STOP_MS : STOP_MS);
        if (outcome === "killed") result.killed.push({ name, pid: process.pid });
      }
    });
    result.stopped.push(name);
  }
  for (const { name, process } of [...virtualMachines(paths), ...egressProxies(paths)]) {
    await endProcess(process, 2000);
    result.killed.push({ name, pid: process.pid });
  }
  await removeHostNetwork(hostNetworkOf(paths.home, MAX_HOSTS));
  if (await clusterRuns(paths)) {
    await progress.step("stopping PostgreSQL", () => stopCluster(paths));
    result.stopped.push("postgresql");
  }
  return result;
}
