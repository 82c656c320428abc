import { join } from "@std/path";
import { isNotFound } from "./files.ts";
import { type HomePaths, homePaths, torporHome } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import { z } from "zod";
import { type HostNetwork, hostNetworkOf, MAX_HOSTS } from "./host_network.ts";
import { clusterOf } from "./postgres.ts";

/** The installation in one data directory: what `up` makes and `down` stops. */
export interface Deployment {
  paths: HomePaths;
  /** Where the API listens, e.g. http://127.0.0.1:7070. */
  apiUrl: string;
  /** The services' shared secret. */
  internalToken: string;
  databaseUrl: string;
  /** True when PostgreSQL is ours to start and stop; false with a DATABASE_URL from outside. */
  ownDatabase: boolean;
  /** With several host agents: the network between them and the control plane. Undefined: one, over unix sockets. */
  network?: HostNetwork;
}

const DEFAULT_PORT = 7070;
const recordSchema = z.object({
  api_url: z.url(),
  /** Host agents in namespaces of their own; 0: one, without. */
  hosts: z.int().min(0).max(MAX_HOSTS).default(0),
});

/** The paths of `$TORPOR_HOME`. */
export function deploymentPaths(): HomePaths {
  return homePaths(torporHome());
}

/** The address of the API that an earlier `up` recorded, or undefined. */
export async function recordedApiUrl(paths: HomePaths): Promise<string | undefined> {
  return (await readRecord(paths))?.api_url;
}

/** How many host agents in namespaces an earlier `up` recorded; 0: one, without. */
export async function recordedHosts(paths: HomePaths): Promise<number> {
  return (await readRecord(paths))?.hosts ?? 0;
}

async function readRecord(paths: HomePaths): Promise<z.infer<typeof recordSchema> | undefined> {
  try {
    return recordSchema.parse(JSON.parse(await Deno.readTextFile(recordFile(paths))));
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw new TorporError("config_invalid", `${recordFile(paths)} is damaged`, { cause: error, hint: "delete it" });
  }
}

/**
 * Reads what earlier runs decided and decides the rest: the API's port, the secret.
 * @param port asked for by the user; by default the recorded one, else 7070, else (when that is taken) any free one.
 * @param askedHosts how many host agents, each in a network namespace; by default as recorded, else one without.
 */
export async function prepareDeployment(paths: HomePaths, port?: number, askedHosts?: number): Promise<Deployment> {
  await Deno.mkdir(paths.home, { recursive: true });
  // The database server runs as another user and must be able to reach its own directory.
  await Deno.chmod(paths.home, 0o711);
  for (const directory of [paths.run, paths.logs]) await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
  const record = await readRecord(paths);
  const recorded = record?.api_url;
  const apiUrl = port === undefined
    ? recorded ?? `http://127.0.0.1:${await freePort(DEFAULT_PORT)}`
    : `http://127.0.0.1:${port}`;
  const hosts = askedHosts ?? record?.hosts ?? 0;
  if (apiUrl !== recorded || hosts !== record?.hosts) {
    await Deno.writeTextFile(recordFile(paths), JSON.stringify({ api_url: apiUrl, hosts }) + "\n");
  }
  const externalDatabase = Deno.env.get("DATABASE_URL");
  return {
    paths,
    apiUrl,
    internalToken: await internalToken(paths),
    databaseUrl: externalDatabase || clusterOf(paths).url,
    ownDatabase: !externalDatabase,
    network: hosts === 0 ? undefined : hostNetworkOf(paths.home, hosts),
  };
}

function recordFile(paths: HomePaths): string {
  return join(paths.home, "deployment.json");
}

async function internalToken(paths: HomePaths): Promise<string> {
  const token = Array.from(crypto.getRandomValues(new Uint8Array(32)), (byte) => byte.toString(16).padStart(2, "0"));
  try {
    await Deno.writeTextFile(paths.internalToken, token.join(""), { createNew: true, mode: 0o600 });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
  return (await Deno.readTextFile(paths.internalToken)).trim();
}

async function freePort(preferred: number): Promise<number> {
  for (const port of [preferred, 0]) {
    try {
      using listener = Deno.listen({ hostname: "127.0.0.1", port });
      return listener.addr.port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
  throw new TorporError("unavailable", "no free TCP port");
}
