/**
 * A real PostgreSQL for tests: one server per test process, a fresh database per test. The server runs as user
 * `postgres` when the tests run as root (it refuses root), listens on a unix socket only, and is stopped and deleted by
 * a watcher process when the test process has ended, however that ended.
 */
import { connect, type Database, migrate, openDatabase } from "@torpor/db";

/** A database of one test. Disposing it closes the pool and drops the database. */
export interface TestDatabase extends AsyncDisposable {
  database: Database;
  url: string;
  /** Cuts all connections to this database, as a restart of the server does, and waits until their sessions are gone. */
  terminateConnections(): Promise<void>;
}

/** Creates an empty database; with `migrated` (the default) it has the schema. */
export async function openTestDatabase(options: { migrated?: boolean } = {}): Promise<TestDatabase> {
  const directory = await ensureServer();
  const name = `test_${crypto.randomUUID().replaceAll("-", "")}`;
  await asAdministrator(directory, `create database ${name}`);
  const url = databaseUrl(directory, name);
  const database = openDatabase(url);
  if (options.migrated ?? true) await migrate(database);
  return {
    database,
    url,
    terminateConnections: () =>
      // Without the time (ms) it only signals them: they end, and free their locks, some time later.
      asAdministrator(
        directory,
        `select pg_terminate_backend(pid, 30000) from pg_stat_activity where datname = '${name}'`,
      ),
    [Symbol.asyncDispose]: async () => {
      await database[Symbol.asyncDispose]();
      await asAdministrator(directory, `drop database ${name} with (force)`);
    },
  };
}

function databaseUrl(directory: string, name: string): string {
  return `postgres://torpor@localhost/${name}?host=${directory}`;
}

async function asAdministrator(directory: string, statement: string): Promise<void> {
  const sql = connect(databaseUrl(directory, "postgres"), { max: 1 });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end();
  }
}

/**
 * Starts the server unless this process has one. Test modules run in threads of one process: flock makes one of them
 * start it. `flock -o` keeps the lock from being inherited by the server, which would hold it for ever.
 */
async function ensureServer(): Promise<string> {
  const base = `${Deno.env.get("TMPDIR") ?? "/tmp"}/torpor-pg-${Deno.pid}`;
  const { success, stderr } = await new Deno.Command("flock", {
    args: ["-o", `${base}.lock`, "sh", "-eu", "-c", START_SCRIPT, "sh", base, String(Deno.pid)],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) throw new Error(`PostgreSQL for tests did not start: ${new TextDecoder().decode(stderr)}`);
  return base;
}

// $1: data and socket directory, $2: pid of the test process. The start time tells it from a later process of that pid.
const START_SCRIPT = `
start_time() { cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null || echo gone; }
started=$(start_time "$2")
[ "$(cat "$1/ready" 2>/dev/null || true)" = "$started" ] && exit 0
rm -rf "$1"
mkdir -m 0711 "$1"
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
if [ "$(id -u)" = 0 ]; then chown postgres "$1"; as="runuser -u postgres --"; else as=""; fi
cd "$1"
$as "$bin/initdb" --no-sync --no-locale -E UTF8 -A trust -U torpor -D "$1/data" >"$1/log" 2>&1 || { cat "$1/log" >&2; exit 1; }
$as "$bin/pg_ctl" start -w -s -D "$1/data" -l "$1/data/log" -o "-c listen_addresses='' -c unix_socket_directories='$1' \\
  -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=400 -c shared_buffers=64MB" >&2
echo "$started" >"$1/ready"
export base="$1" pid="$2" started bin as
setsid sh -c '
  while [ "$(cut -d " " -f 22 "/proc/$pid/stat" 2>/dev/null)" = "$started" ]; do sleep 0.2; done
  $as "$bin/pg_ctl" stop -s -m immediate -D "$base/data"
  rm -rf "$base" "$base.lock"
' >/dev/null 2>&1 </dev/null &
`;
