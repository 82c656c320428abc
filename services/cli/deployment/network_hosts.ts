import { exists } from "@std/fs";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { z } from "zod";
import { openApi } from "../client/api.ts";
import { endProcess, isAlive, type ProcessInfo, readProcess } from "../process/process_table.ts";
import type { Deployment } from "./deployment.ts";
import { readTextIfThere, rotateLog } from "./files.ts";
import { type HostNetworkMember, inNamespace } from "./host_network.ts";
import { REPOSITORY } from "./repository.ts";
import { findServices } from "./service_process.ts";
import { HOST_PORT, hostEnvironment, hostHome } from "./services.ts";

const POLL_MS = 100;

/** A host agent that stops writes the memory of its sandboxes to disk. */
const STOP_MS = 180_000;

/** A host agent in a network namespace. */
export interface NetworkHost {
  name: string;
  process: ProcessInfo;
  address: string;
  started: boolean;
}

/**
 * Starts the host agents of a deployment that has more than one, each in its namespace with a data directory of its own,
 * and waits until the scheduler has all of them. A new one joins by a token, as on another machine; so does one that was
 * removed: it keeps its id and its data, and brings its sandboxes back.
 * @throws TorporError `unavailable` when one ends or does not register within `timeoutMs`.
 */
export async function startNetworkHosts(
  deployment: Deployment,
  nativeDirectory: string,
  sources: string,
  timeoutMs: number,
): Promise<NetworkHost[]> {
  const hosts: NetworkHost[] = [];
  const members = await memberNames(deployment);
  for (const [index, member] of deployment.network!.hosts.entries()) {
    const home = hostHome(deployment.paths, index);
    const name = `host-${index + 1}`;
    const isMember = members.has(name);
    let running = findServices(deployment.paths).find(({ process }) => process.env.get("TORPOR_HOME") === home)
      ?.process;
    if (running && !isMember) {
      // An agent takes a token only at its start. It pauses what runs there first.
      await endProcess(running, STOP_MS);
      running = undefined;
    }
    const process = running ?? await start(deployment, { name, home, member, nativeDirectory, sources, isMember });
    hosts.push({ name, process, address: `https://${member.address}:${HOST_PORT}`, started: !running });
  }
  await untilRegistered(deployment, hosts, timeoutMs);
  return hosts;
}

interface Start {
  name: string;
  home: string;
  member: HostNetworkMember;
  nativeDirectory: string;
  sources: string;
  /** The scheduler has it: it needs no token. */
  isMember: boolean;
}

/** The hosts that the deployment has; removed ones are not among them. */
async function memberNames({ apiUrl, internalToken }: Deployment): Promise<Set<string>> {
  using api = openApi({ url: apiUrl, key: internalToken });
  return new Set((await api.hosts.listHosts({})).hosts.map(({ name }) => name));
}

async function start(deployment: Deployment, { name, home, member, isMember, ...rest }: Start): Promise<ProcessInfo> {
  await Deno.mkdir(home, { recursive: true, mode: 0o700 });
  const known = isMember && await exists(join(home, "host-certificate.json"));
  const env = hostEnvironment(deployment, {
    ...(known ? {} : { TORPOR_HOST_TOKEN: await hostToken(deployment, name) }),
    TORPOR_SERVICE: "hostagent",
    TORPOR_SOURCES: rest.sources,
    TORPOR_HOME: home,
    TORPOR_LIB_DIR: rest.nativeDirectory,
    TORPOR_LISTEN: `https://${member.address}:${HOST_PORT}`,
    TORPOR_SCHEDULER_URL: `https://${deployment.network!.controlAddress}:${HOST_PORT}#scheduler`,
    TORPOR_HOST_NAME: name,
  });
  const file = hostLog(deployment, name);
  await rotateLog(file);
  const log = openSync(file, "a", 0o600);
  const run = ["run", "--quiet", "--frozen", "--no-prompt", "--allow-all", "--config", join(REPOSITORY, "deno.json")];
  const entry = join(REPOSITORY, "services/hostagent/main.ts");
  const [program, ...args] = inNamespace(member, [Deno.execPath(), ...run, entry]);
  const child = spawn(program!, args, { cwd: home, env, detached: true, stdio: ["ignore", log, log] });
  closeSync(log);
  await once(child, "spawn");
  child.unref();
  const process = readProcess(child.pid!);
  if (!process) throw await failure(deployment, name);
  return process;
}

async function hostToken({ apiUrl, internalToken }: Deployment, name: string): Promise<string> {
  using api = openApi({ url: apiUrl, key: internalToken });
  const response = await api.rest("/v1/host-tokens", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name }),
  });
  return z.object({ token: z.string() }).parse(await response.json()).token;
}

async function untilRegistered(deployment: Deployment, hosts: NetworkHost[], timeoutMs: number): Promise<void> {
  using api = openApi({ url: deployment.apiUrl, key: deployment.internalToken });
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const listed = (await api.hosts.listHosts({})).hosts;
    const missing = hosts.find(({ name }) => !listed.some((host) => host.name === name && host.state === "ready"));
    if (!missing) return;
    if (!isAlive(missing.process) || performance.now() > deadline) throw await failure(deployment, missing.name);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function hostLog({ paths }: Deployment, name: string): string {
  return join(paths.logs, `${name}.log`);
}

async function failure(deployment: Deployment, name: string): Promise<TorporError> {
  const file = hostLog(deployment, name);
  const lines = (await readTextIfThere(file) ?? "").trimEnd().split("\n").slice(-8).join("\n");
  return new TorporError("unavailable", `${name} has not registered; the end of its log:\n${lines}`, {
    hint: `see ${file}`,
  });
}
