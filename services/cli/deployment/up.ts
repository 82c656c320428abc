import { join } from "@std/path";
import type { HomePaths } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import { endProcess, isAlive, type ProcessInfo } from "../process/process_table.ts";
import type { Progress, Report } from "../terminal/progress.ts";
import { runTool } from "../tool/run_tool.ts";
import { type Deployment, deploymentPaths, prepareDeployment, recordedHosts } from "./deployment.ts";
import { createHostNetwork } from "./host_network.ts";
import { buildDatabaseDriver } from "./database_driver.ts";
import { buildImages } from "./images.ts";
import { buildNative } from "./native.ts";
import { installPackages, missingPackages, type Package, PACKAGES } from "./packages.ts";
import { startNetworkHosts } from "./network_hosts.ts";
import { startCluster } from "./postgres.ts";
import { REPOSITORY } from "./repository.ts";
import { findServices, startService, waitUntilReady } from "./service_process.ts";
import { serviceDefinitions, sourcesHash } from "./services.ts";
import { checkSleep } from "./sleep_check.ts";
import { virtualMachines } from "./virtual_machines.ts";
import { waitForHost } from "./wait_for_host.ts";

/** What the user asks of {@linkcode bringUp}. */
export interface UpOptions {
  /** TCP port of the API; by default the one of the last time, else 7070, else any free one. */
  port?: number;
  /** Host agents, each in a network namespace of its own; by default as the last time, else one without. */
  hosts?: number;
}

/** A deployment that runs. */
export interface UpResult {
  deployment: Deployment;
  services: { name: string; pid: number; address: string; started: boolean }[];
}

const READY_MS = 60_000;
const RENEW_MS = 30_000;

/**
 * Makes everything that is missing, from Debian packages to the first API key, and starts what does not run yet.
 * What is there is left alone, so a repeat takes seconds.
 * @throws TorporError `permission_denied` when not root; `internal` with a tool's output when a step fails;
 * `unavailable` with the log's end when a service does not become ready.
 */
export async function bringUp(progress: Progress, options: UpOptions = {}): Promise<UpResult> {
  requireRoot();
  const paths = deploymentPaths();
  await providePackages(progress);
  if (options.hosts !== undefined) await requireSameHosts(paths, options.hosts);
  const deployment = await prepareDeployment(paths, options.port, options.hosts);
  const native = await progress.step("native code", (report) => buildNative(paths, report));
  await progress.step("database driver", buildDatabaseDriver);
  await progress.step("guest images", (report) => buildImages(paths, report));
  if (deployment.ownDatabase) {
    await progress.step("PostgreSQL", (report) => startCluster(paths, report));
  }
  if (deployment.network) await createHostNetwork(deployment.network);
  const services = await progress.step("services", (report) => startServices(deployment, native, report));
  if (services.some(({ name, started }) => name === "hostagent" && started)) await checkSleep(deployment, progress);
  return { deployment, services };
}

/** Installs the Debian packages that are missing, after saying which. */
export async function providePackages(progress: Progress, besides: readonly Package[] = []): Promise<void> {
  const missing = await missingPackages([...PACKAGES, ...besides]);
  if (missing.length === 0) return;
  requireRoot();
  for (const { name, use } of missing) progress.note(`missing Debian package ${name}: ${use}`);
  await progress.step(`installing ${missing.length} Debian packages`, (report) => installPackages(missing, report));
}

function requireRoot(): void {
  if (Deno.uid() === 0) return;
  throw new TorporError("permission_denied", "this needs root for now: VMs, their memory and the database's user", {
    hint: "run it with sudo",
  });
}

async function startServices(deployment: Deployment, native: string, report: Report): Promise<UpResult["services"]> {
  const sources = await sourcesHash();
  const definitions = serviceDefinitions(deployment, native, sources);
  const running = await runningServices(deployment, sources, report);
  if (definitions.some(({ name }) => !running.has(name))) {
    report("database migrations");
    await admin(deployment, ["migrate"]);
    report("API key");
    await admin(deployment, ["ensure-api-key", "--file", deployment.paths.apiKey]);
  }
  const started = await Promise.all(definitions.map(async (service) => {
    const before = running.get(service.name);
    const process: ProcessInfo = before ?? await startService(deployment, service);
    return { service, process, started: !before };
  }));
  await Promise.all(started.map(async ({ service, process }) => {
    await waitUntilReady(deployment, service, process, READY_MS);
    report(`${service.name} is ready`);
  }));
  const dead = started.find(({ process }) => !isAlive(process));
  if (dead) throw new TorporError("unavailable", `${dead.service.name} ended right after its start`);
  const hosts = deployment.network ? await startNetworkHosts(deployment, native, sources, READY_MS) : [];
  if (!deployment.network) await waitForHost(deployment, READY_MS);
  const own = started.map(({ service, process, started }) => ({
    name: service.name,
    pid: process.pid,
    address: service.address,
    started,
  }));
  return [
    ...own,
    ...hosts.map(({ name, process, address, started }) => ({ name, pid: process.pid, address, started })),
  ];
}

/** @throws TorporError `conflict` when another number of host agents is asked for than runs. */
async function requireSameHosts(paths: HomePaths, hosts: number): Promise<void> {
  const recorded = await recordedHosts(paths);
  if (hosts === recorded || !findServices(paths).some(({ name }) => name === "hostagent")) return;
  throw new TorporError("conflict", `this deployment runs with --hosts ${recorded}`, { hint: "./torpor down first" });
}

/**
 * The services that run already. One whose code has changed since its start is stopped, to be started anew; but a host
 * agent with running sandboxes is left alone, as it would pause them.
 */
async function runningServices(
  deployment: Deployment,
  sources: string,
  report: Report,
): Promise<Map<string, ProcessInfo>> {
  const running = new Map<string, ProcessInfo>();
  const busy = virtualMachines(deployment.paths).length > 0;
  for (const { name, process } of findServices(deployment.paths)) {
    const renewable = process.env.get("TORPOR_SOURCES") !== sources && !running.has(name);
    if (renewable && name === "hostagent" && busy) {
      report("hostagent runs older code and has running sandboxes: ./torpor down, then up, renews it");
    } else if (renewable) {
      report(`${name} runs older code: stopping it`);
      await endProcess(process, RENEW_MS);
      continue;
    }
    running.set(name, process);
  }
  return running;
}

/** Runs the api's administration commands, which have their own process as they need the database. */
async function admin(deployment: Deployment, args: string[]): Promise<string> {
  const module = join(REPOSITORY, "services/api/admin.ts");
  const run = ["run", "--quiet", "--frozen", "--allow-all", "--config", join(REPOSITORY, "deno.json")];
  return await runTool([Deno.execPath(), ...run, module, ...args], { env: { DATABASE_URL: deployment.databaseUrl } });
}
