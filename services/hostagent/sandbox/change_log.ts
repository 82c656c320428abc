import { newId } from "@torpor/ids";

/** Changes that are remembered; who asks for older ones compares everything. */
const REMEMBERED = 65_536;

/** What is compared to notice that a sandbox has changed. */
export type Stamp = readonly (string | number | bigint | boolean | undefined)[];

/** The answer to "what has changed since": ids only, the present tells which of them still exist. */
export interface Changes {
  /** False: changes are missing, because they are too old or of another run. */
  complete: boolean;
  ids: ReadonlySet<string>;
}

/**
 * Numbers the changes of this run's sandboxes, so that a caller can ask for what it has not seen. Changes are found by
 * looking at all sandboxes when somebody asks, not by being told: code that changes one cannot forget to say so. Looking
 * at 10,000 takes about a millisecond.
 */
export class ChangeLog {
  /** Tells this run from the agent's earlier ones, whose revisions say nothing here. */
  readonly epoch: string = newId();
  #revision = 0n;
  #round = 0;
  #seen = new Map<string, { stamp: Stamp; round: number }>();
  /** The ids of the revisions from `#revision - length + 1` to `#revision`. */
  #log: string[] = [];

  /** The number of the newest change. */
  get revision(): bigint {
    return this.#revision;
  }

  /** Notes what has changed since it looked last. */
  observe<Sandbox>(sandboxes: Iterable<Sandbox>, stampOf: (sandbox: Sandbox) => [id: string, stamp: Stamp]): void {
    const round = ++this.#round;
    let count = 0;
    for (const sandbox of sandboxes) {
      const [id, stamp] = stampOf(sandbox);
      const seen = this.#seen.get(id);
      if (!seen || !sameStamp(seen.stamp, stamp)) {
        this.#seen.set(id, { stamp, round });
        this.#note(id);
      } else seen.round = round;
      count++;
    }
    if (this.#seen.size === count) return;
    for (const [id, seen] of this.#seen) {
      if (seen.round === round) continue;
      this.#seen.delete(id);
      this.#note(id);
    }
  }

  /** The sandboxes that changed, began or ceased to exist after a revision. */
  since(epoch: string, revision: bigint): Changes {
    const missed = this.#revision - revision;
    const complete = epoch === this.epoch && missed >= 0n && missed <= BigInt(this.#log.length);
    return { complete, ids: new Set(complete && missed > 0n ? this.#log.slice(-Number(missed)) : []) };
  }

  #note(id: string): void {
    this.#revision++;
    this.#log.push(id);
    // Not one by one: moving the array for each change would cost more than the change.
    if (this.#log.length > 2 * REMEMBERED) this.#log = this.#log.slice(-REMEMBERED);
  }
}

function sameStamp(a: Stamp, b: Stamp): boolean {
  for (let i = 0; i < b.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
