import { AdvisoryLock, type Database } from "@torpor/db";
import { log } from "@torpor/telemetry";

/** The advisory lock of the leading reconciler ("torpor" in ASCII and a number). */
const LEADER_KEY = 0x746f_7270_6f72_0001n;

/** Whether this replica leads: it holds the advisory lock, and PostgreSQL has confirmed so for this pass. */
export class Leadership implements AsyncDisposable {
  #lock: AdvisoryLock | undefined;
  #since = 0;
  #term = 0;

  constructor(private readonly database: Database) {}

  /** True when this replica led at its last {@linkcode confirm}, and its connection still stands. */
  get held(): boolean {
    return this.#lock !== undefined && !this.#lock.lost.aborted;
  }

  /** Grows with each time that this replica begins to lead. */
  get term(): number {
    return this.#term;
  }

  /** How long this replica has led, ms. */
  get heldMs(): number {
    return this.held ? performance.now() - this.#since : 0;
  }

  /**
   * Confirms the lock, or tries to get it. Called before each pass: a connection that was cut silently still looks alive
   * here while another replica already leads.
   * @throws `unavailable`; this replica then does not lead.
   */
  async confirm(): Promise<boolean> {
    if (this.#lock && !await this.#stillHeld(this.#lock)) await this.#drop();
    if (this.#lock) return true;
    this.#lock = await AdvisoryLock.tryAcquire(this.database, LEADER_KEY);
    this.#since = performance.now();
    if (this.#lock) {
      this.#term++;
      log("info", "leading");
    }
    return this.#lock !== undefined;
  }

  async #stillHeld(lock: AdvisoryLock): Promise<boolean> {
    try {
      await lock.verify();
      return true;
    } catch (thrown) {
      log("warn", "leadership_lost", {}, thrown);
      return false;
    }
  }

  async #drop(): Promise<void> {
    const lock = this.#lock;
    this.#lock = undefined;
    await lock?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#drop();
  }
}
