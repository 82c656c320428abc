import { exists } from "@std/fs";
import { dirname, join } from "@std/path";
import { TorporError } from "@torpor/errors";
import type { HomePaths } from "@torpor/config";
import { readTextIfThere, rotateLog } from "./files.ts";
import type { Report } from "../terminal/progress.ts";
import { runTool, succeeds } from "../tool/run_tool.ts";

const SERVERS = "/usr/lib/postgresql";
const ROLE = "torpor";
const DATABASE = "torpor";

/**
 * The database's own PostgreSQL cluster, in the data directory, reached through a unix socket only. The server refuses
 * to run as root, so it runs as Debian's user postgres; root connects as the role "torpor" by peer authentication.
 */
export interface Cluster {
  /** For DATABASE_URL. */
  url: string;
  /** Directory of the socket, PGHOST for psql. */
  socketDirectory: string;
  dataDirectory: string;
  logFile: string;
}

/** Where the cluster of a data directory is. */
export function clusterOf(paths: HomePaths): Cluster {
  return {
    url: `postgres://${ROLE}@localhost/${DATABASE}?host=${encodeURIComponent(paths.database)}`,
    socketDirectory: paths.database,
    dataDirectory: join(paths.database, "cluster"),
    logFile: join(paths.database, "postgresql.log"),
  };
}

/**
 * Makes the cluster and the database unless they exist, and starts the server unless it runs.
 * @returns "started", or "running" when it ran already.
 * @throws TorporError `config_invalid` when the user postgres cannot reach the data directory.
 */
export async function startCluster(paths: HomePaths, report: Report): Promise<"started" | "running"> {
  const cluster = clusterOf(paths);
  const owner = await postgresUser();
  await Deno.mkdir(cluster.socketDirectory, { recursive: true });
  await Deno.chown(cluster.socketDirectory, owner.uid, owner.gid);
  // The socket is in it: only root and postgres may reach it.
  await Deno.chmod(cluster.socketDirectory, 0o700);
  await requireTraversable(cluster.socketDirectory, owner);
  const bin = await serverPrograms(cluster.dataDirectory);
  if (!await exists(join(cluster.dataDirectory, "PG_VERSION"))) {
    report("making the database cluster");
    await makeCluster(cluster, bin, owner);
  }
  const control = [join(bin, "pg_ctl"), "-D", cluster.dataDirectory];
  const asPostgres = { ...owner, cwd: "/" };
  if (await succeeds([...control, "status"], asPostgres)) return "running";
  report("starting the server");
  await rotateLog(cluster.logFile);
  await runTool([...control, "-w", "-t", "60", "-l", cluster.logFile, "start"], {
    ...asPostgres,
    hint: `see ${cluster.logFile}`,
  });
  await createDatabase(cluster, bin, owner);
  return "started";
}

/**
 * Stops the server; false when it did not run.
 * @param mode `fast` rolls back what is under way and ends its sessions; `immediate` is a crash, and the next start recovers.
 */
export async function stopCluster(paths: HomePaths, mode: "fast" | "immediate" = "fast"): Promise<boolean> {
  const cluster = clusterOf(paths);
  if (!await exists(join(cluster.dataDirectory, "PG_VERSION"))) return false;
  const owner = await postgresUser();
  const control = [join(await serverPrograms(cluster.dataDirectory), "pg_ctl"), "-D", cluster.dataDirectory];
  const asPostgres = { ...owner, cwd: "/" };
  if (!await succeeds([...control, "status"], asPostgres)) return false;
  await runTool([...control, "-w", "-t", "60", "-m", mode, "stop"], asPostgres);
  return true;
}

/** True while the server of this data directory runs. */
export async function clusterRuns(paths: HomePaths): Promise<boolean> {
  const { dataDirectory } = clusterOf(paths);
  if (!await exists(join(dataDirectory, "PG_VERSION"))) return false;
  const control = [join(await serverPrograms(dataDirectory), "pg_ctl"), "-D", dataDirectory];
  return await succeeds([...control, "status"], { ...await postgresUser(), cwd: "/" });
}

interface User {
  uid: number;
  gid: number;
}

/** Debian's user postgres. */
async function postgresUser(): Promise<User> {
  const line = (await Deno.readTextFile("/etc/passwd")).split("\n").find((line) => line.startsWith("postgres:"));
  if (!line) throw new TorporError("config_invalid", "there is no user postgres", { hint: "install postgresql" });
  const [, , uid, gid] = line.split(":");
  return { uid: Number(uid), gid: Number(gid) };
}

/** The programs of the server version that made the cluster, or of the newest one installed. */
async function serverPrograms(dataDirectory: string): Promise<string> {
  const made = await readTextIfThere(join(dataDirectory, "PG_VERSION"));
  const versions = (await Array.fromAsync(Deno.readDir(SERVERS))).map((entry) => entry.name)
    .filter((name) => /^[0-9]+$/.test(name)).sort((a, b) => Number(a) - Number(b));
  const version = made?.trim() ?? versions.at(-1);
  if (version === undefined || !versions.includes(version)) {
    throw new TorporError("config_invalid", `no PostgreSQL ${version ?? "server"} below ${SERVERS}`, {
      hint: made ? `the database was made by PostgreSQL ${version}: install postgresql-${version}` : undefined,
    });
  }
  return join(SERVERS, version, "bin");
}

async function makeCluster(cluster: Cluster, bin: string, owner: User): Promise<void> {
  const partial = `${cluster.dataDirectory}.partial`;
  const asPostgres = { ...owner, cwd: "/" };
  await runTool(["rm", "-rf", partial]);
  await runTool([
    join(bin, "initdb"),
    ...["-D", partial, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-A", "peer", "--data-checksums"],
  ], asPostgres);
  await Deno.writeTextFile(join(partial, "pg_hba.conf"), "local all all peer map=torpor\n");
  await Deno.writeTextFile(
    join(partial, "pg_ident.conf"),
    `torpor root ${ROLE}\ntorpor postgres postgres\n`,
  );
  const settings = [
    "listen_addresses = ''",
    `unix_socket_directories = '${cluster.socketDirectory.replaceAll("'", "''")}'`,
    "unix_socket_permissions = 0700",
    "max_connections = 100",
    "shared_buffers = 64MB",
    "timezone = 'UTC'",
    "log_timezone = 'UTC'",
  ];
  await Deno.writeTextFile(join(partial, "postgresql.conf"), `\n# Torpor\n${settings.join("\n")}\n`, { append: true });
  await Deno.rename(partial, cluster.dataDirectory);
}

async function createDatabase(cluster: Cluster, bin: string, owner: User): Promise<void> {
  const psql = [join(bin, "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", cluster.socketDirectory, "-U", "postgres"];
  const ask = async (database: string, sql: string) =>
    await runTool([...psql, "-d", database, "-c", sql], { ...owner, cwd: "/" });
  if (await ask("postgres", `SELECT 1 FROM pg_roles WHERE rolname = '${ROLE}'`) === "") {
    await ask("postgres", `CREATE ROLE ${ROLE} LOGIN`);
  }
  if (await ask("postgres", `SELECT 1 FROM pg_database WHERE datname = '${DATABASE}'`) === "") {
    await ask("postgres", `CREATE DATABASE ${DATABASE} OWNER ${ROLE}`);
  }
}

/** The user postgres needs the search permission on each directory above its own. */
async function requireTraversable(directory: string, owner: User): Promise<void> {
  if (await succeeds(["test", "-x", directory], { ...owner, cwd: "/" })) return;
  const ancestors: string[] = [];
  for (let path = directory; path !== "/"; path = dirname(path)) ancestors.unshift(path);
  for (const path of ancestors) {
    if (await succeeds(["test", "-x", path], { ...owner, cwd: "/" })) continue;
    throw new TorporError("config_invalid", `the user postgres cannot enter ${path}`, {
      hint: `chmod o+x ${path}, or choose another TORPOR_HOME, or give DATABASE_URL`,
    });
  }
}
