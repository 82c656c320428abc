import { TorporError } from "@torpor/errors";
import { connect, type Database, named, type Sql } from "./database.ts";

/**
 * A session-level advisory lock on a connection of its own. PostgreSQL frees it the moment that connection ends, so it
 * shows which process is alive without any timeout.
 */
export class AdvisoryLock implements AsyncDisposable {
  /** Aborted when the connection that holds the lock has ended. */
  readonly lost: AbortSignal;

  private constructor(
    private readonly sql: Sql,
    private readonly key: bigint,
    private readonly backendPid: number,
    lost: AbortController,
  ) {
    this.lost = lost.signal;
  }

  /**
   * Takes the lock if nobody holds it.
   * @param key any int8.
   * @returns undefined when another session holds it.
   * @throws `unavailable` when the database cannot be reached.
   */
  static async tryAcquire(database: Database, key: bigint): Promise<AdvisoryLock | undefined> {
    const lost = new AbortController();
    const sql = connect(database.url, { max: 1, onclose: () => lost.abort() });
    try {
      const [row] = await named("try_advisory_lock", () =>
        sql<{ locked: boolean; pid: number }[]>`
          select pg_try_advisory_lock(${key}) as locked, pg_backend_pid() as pid`);
      if (row!.locked) return new AdvisoryLock(sql, key, row!.pid, lost);
    } catch (thrown) {
      await sql.end({ timeout: 0 });
      throw thrown;
    }
    await sql.end({ timeout: 5 });
    return undefined;
  }

  /**
   * Asks the server whether this session still holds the lock: a connection that was cut silently looks alive here.
   * @throws `not_leader` when it does not, `unavailable` when it cannot be asked.
   */
  async verify(): Promise<void> {
    if (this.lost.aborted) throw lockLost();
    const [row] = await named("verify_advisory_lock", () =>
      this.sql<{ held: boolean }[]>`
        select exists (
          select from pg_locks
          where locktype = 'advisory' and pid = pg_backend_pid() and granted
            and classid::int8 = (${this.key}::int8 >> 32) & 4294967295 and objid::int8 = ${this.key}::int8 & 4294967295
        ) and pg_backend_pid() = ${this.backendPid} as held`);
    // postgres.js reconnects by itself; the new session holds nothing.
    if (this.lost.aborted || !row!.held) throw lockLost();
  }

  /** Frees the lock. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.sql.end({ timeout: 1 });
  }
}

function lockLost(): TorporError {
  return new TorporError("not_leader", "the advisory lock was lost");
}
