import postgres from "@torpor/postgres";
import { TorporError } from "@torpor/errors";
import { timed, underWay, withSpan } from "@torpor/telemetry";
import { fromDatabaseError, isRetryable } from "./db_errors.ts";

/** int8 is bigint everywhere: versions and sizes go into int64 protobuf fields, times in ns exceed 2^53. */
interface ColumnTypes extends Record<string, unknown> {
  bigint: bigint;
}

/** A pool's connection or an open transaction: what query functions take. */
export type Queryable = postgres.ISql<ColumnTypes>;

/** The pool itself. */
export type Sql = postgres.Sql<ColumnTypes>;

/** A transaction that meets a deadlock or a serialization failure is run again this often. */
const MAX_TRANSACTION_ATTEMPTS = 4;

/** A statement that takes longer is given up by the server: it waits for a lock whose holder hangs. ms. */
const STATEMENT_TIMEOUT_MS = 10_000;

/** A query that gets no connection of the pool for this long has not been sent: the pool is used up. ms. */
const QUEUE_TIMEOUT_MS = 5_000;

/** A server that gives a statement up says so. One that says nothing for so much longer is lost, or its network is. ms. */
const ANSWER_MARGIN_MS = 3_000;

/** A session that began a transaction and then says nothing has a client that hangs: its locks are freed after this, ms. */
const SILENT_TRANSACTION_MS = 20_000;

/** Options of {@linkcode openDatabase}. */
export interface DatabaseOptions {
  /** Connections of the pool. Default 10. */
  maxConnections?: number;
}

/** A pool of connections to one PostgreSQL database. Dispose it to close them. */
export class Database implements AsyncDisposable {
  /** For query functions: `getSandbox(database.sql, …)`. */
  readonly sql: Sql;

  constructor(readonly url: string, options: DatabaseOptions = {}) {
    this.sql = connect(url, { max: options.maxConnections ?? 10 });
  }

  /**
   * Runs `work` in one transaction, committed when it returns and rolled back when it throws. On a deadlock or a
   * serialization failure it runs again, so `work` must have no effect outside the database.
   * @param name for the span: `db.<name>`.
   * @throws `unavailable` when the connection is lost (a commit may have happened); else what `work` throws.
   */
  async transaction<T>(name: string, work: (sql: Queryable) => Promise<T>): Promise<T> {
    return await named(name, async () => {
      for (let attempt = 1;; attempt++) {
        try {
          return await this.sql.begin(work) as T;
        } catch (thrown) {
          if (!isRetryable(thrown) || attempt >= MAX_TRANSACTION_ATTEMPTS) throw thrown;
        }
      }
    });
  }

  /** @throws `unavailable` when the database does not answer a query. */
  async checkReady(): Promise<void> {
    await named("ready", () => this.sql`select 1`);
  }

  /** Closes the pool after the queries in flight, at most 5 s. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.sql.end({ timeout: 5 });
  }
}

/**
 * Opens a pool; connections are made on demand.
 * @param url `postgres://user:password@host:port/database`; for a unix socket `postgres://user@localhost/database?host=/directory`.
 * @throws `config_invalid` when the URL cannot be read.
 */
export function openDatabase(url: string, options: DatabaseOptions = {}): Database {
  return new Database(url, options);
}

/**
 * Runs one query function inside the span `db.<name>` and measures it.
 * @throws `unavailable` for connection failures, for a statement that takes too long (10 s) or is not answered (13 s), and
 * when no connection of the pool becomes free (5 s); else what `work` throws.
 */
export async function named<T>(name: string, work: () => Promise<T>): Promise<T> {
  using _active = underWay("torpor.db.queries.active");
  const traced = () =>
    withSpan(`db.${name}`, { "db.system.name": "postgresql" }, async () => {
      try {
        return await work();
      } catch (thrown) {
        throw fromDatabaseError(thrown);
      }
    });
  return await timed("torpor.db.query.duration", { "torpor.query": name }, traced);
}

/** Options of {@linkcode connect}. */
export interface ConnectOptions {
  /** Connections. */
  max: number;
  onclose?: () => void;
  /** After which the server gives a statement up, ms; 0: never. Default 10,000. */
  statementTimeoutMs?: number;
}

/** A postgres.js client with the project's settings. */
export function connect(url: string, options: ConnectOptions): Sql {
  const { connection, ...target } = parseDatabaseUrl(url);
  const statementTimeoutMs = options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS;
  // Not in the types of the npm package: see libs/postgres/README.md.
  const patience = {
    queue_timeout: QUEUE_TIMEOUT_MS,
    answer_timeout: statementTimeoutMs === 0 ? 0 : statementTimeoutMs + ANSWER_MARGIN_MS,
  };
  return postgres({
    ...target,
    ...patience,
    connection: {
      ...connection,
      statement_timeout: statementTimeoutMs,
      idle_in_transaction_session_timeout: SILENT_TRANSACTION_MS,
    },
    max: options.max,
    onclose: options.onclose,
    types: { bigint: postgres.BigInt },
    // Only column names: postgres.camel would also rename the keys inside jsonb values, which are the user's.
    transform: { column: { from: postgres.toCamel } },
    // Connections that hold a lock must not be recycled, and the others need not be.
    max_lifetime: null,
    idle_timeout: undefined,
    connect_timeout: 5,
    // The default reaches 20 s and leaves queries waiting long after a restarted server is back.
    backoff: (retries) => Math.min(0.5, 0.02 * 2 ** retries),
    onnotice: () => {},
  });
}

function parseDatabaseUrl(text: string) {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const database = url && decodeURIComponent(url.pathname.slice(1));
  if (!url || !["postgres:", "postgresql:"].includes(url.protocol) || !database) {
    throw new TorporError("config_invalid", "DATABASE_URL must be postgres://user[:password]@host[:port]/database", {
      field: "DATABASE_URL",
    });
  }
  const directory = url.searchParams.get("host");
  const mode = url.searchParams.get("sslmode") ?? "disable";
  return {
    host: directory ?? url.hostname,
    port: Number(url.port || url.searchParams.get("port") || 5432),
    database,
    username: decodeURIComponent(url.username) || "torpor",
    password: decodeURIComponent(url.password),
    ssl: mode === "disable" ? false : mode as "require" | "prefer" | "verify-full",
    connection: {
      application_name: Deno.env.get("OTEL_SERVICE_NAME") ?? "torpor",
      // Every frequent statement has an index. A plan that was made while a table was small or empty, and reads all of it,
      // would stay for as long as the connection: also when the table has grown, or is full of dead rows, as `hosts` is.
      enable_seqscan: "off",
      // What has no index then looks so expensive that PostgreSQL would compile it to machine code: 100 ms for a small table.
      jit: "off",
    },
  };
}
