import { join } from "@std/path";
import { isNotFound } from "./files.ts";
import { type HomePaths, homePaths, torporHome } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import { z } from "zod";
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
}

const DEFAULT_PORT = 7070;
const recordSchema = z.object({ api_url: z.url() });

/** The paths of `$TORPOR_HOME`. */
export function deploymentPaths(): HomePaths {
  return homePaths(torporHome());
}

/** The address of the API that an earlier `up` recorded, or undefined. */
export async function recordedApiUrl(paths: HomePaths): Promise<string | undefined> {
  try {
    return recordSchema.parse(JSON.parse(await Deno.readTextFile(recordFile(paths)))).api_url;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw new TorporError("config_invalid", `${recordFile(paths)} is damaged`, { cause: error, hint: "delete it" });
  }
}

/**
 * Reads what earlier runs decided and decides the rest: the API's port, the secret.
 * @param port asked for by the user; by default the recorded one, else 7070, else (when that is taken) any free one.
 */
export async function prepareDeployment(paths: HomePaths, port?: number): Promise<Deployment> {
  await Deno.mkdir(paths.home, { recursive: true });
  // The database server runs as another user and must be able to reach its own directory.
  await Deno.chmod(paths.home, 0o711);
  for (const directory of [paths.run, paths.logs]) await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
  const recorded = await recordedApiUrl(paths);
  const apiUrl = port === undefined
    ? recorded ?? `http://127.0.0.1:${await freePort(DEFAULT_PORT)}`
    : `http://127.0.0.1:${port}`;
  if (apiUrl !== recorded) await Deno.writeTextFile(recordFile(paths), JSON.stringify({ api_url: apiUrl }) + "\n");
  const externalDatabase = Deno.env.get("DATABASE_URL");
  return {
    paths,
    apiUrl,
    internalToken: await internalToken(paths),
    databaseUrl: externalDatabase || clusterOf(paths).url,
    ownDatabase: !externalDatabase,
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
