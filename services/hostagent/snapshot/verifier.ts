import { isId } from "@torpor/ids";
import type { Manifest } from "@torpor/snapshot";
import { log, withSpan } from "@torpor/telemetry";
import { namesIn } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import type { KnownDamage } from "./damage.ts";
import { Pace, type Reading } from "./pace.ts";
import type { SnapshotReferences } from "./references.ts";
import { sealData } from "./seal_disk.ts";
import { type VerificationState, writeVerificationState } from "./verification_state.ts";
import { type VerifiedFile, verifyOwnData } from "./verify_data.ts";

/** What is read in the background waits so long, ms. */
export interface VerifierDelays {
  /** After a change: a resume that follows a pause at once does not compete with it, and the disk is still in memory. */
  sealMs: number;
  /** After a start, which has enough to do, and between two passes at least. */
  passMs: number;
}

const DELAYS: VerifierDelays = { sealMs: 5000, passMs: 60_000 };

/** What a verifier works with. */
export interface VerifierOptions {
  layout: Layout;
  references: SnapshotReferences;
  damage: KnownDamage;
  /** What an earlier agent has left. */
  state: VerificationState;
  /** From the begin of one pass to the begin of the next, ms; 0: nothing is read in the background. */
  intervalMs: number;
  /** Of all that is read in the background. */
  bytesPerSecond: number;
  delays?: VerifierDelays;
}

/**
 * Reads all snapshots of a host again and again, slowly, to find what the medium has lost while a good copy may still
 * exist. It also gives new disks their checksums. It reports, and never removes anything.
 */
export class Verifier implements AsyncDisposable {
  readonly #options: VerifierOptions;
  readonly #state: VerificationState;
  readonly #stop = new AbortController();
  readonly #reading: Reading;
  readonly #delays: VerifierDelays;
  readonly #running = new Set<Promise<unknown>>();
  /** Snapshots whose data needs no checksums and hashes any more, and how that was stored. */
  #sealed = new Map<string, Manifest>();
  #started = false;
  #marked = false;
  #passTimer: ReturnType<typeof setTimeout> | undefined;
  #sealTimer: ReturnType<typeof setTimeout> | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #saved: Promise<unknown> = Promise.resolve();

  constructor(options: VerifierOptions) {
    this.#options = options;
    this.#state = { ...options.state };
    this.#delays = options.delays ?? DELAYS;
    this.#reading = { pace: new Pace(options.bytesPerSecond), signal: this.#stop.signal };
  }

  /** Works in the background from now on; a pass that was cut short goes on. */
  start(): void {
    this.#started = this.#options.intervalMs > 0;
    this.soon();
    if (!this.#started) return;
    const { cursor, beganAtMs } = this.#state;
    this.#arm(cursor === null ? this.#untilNext(beganAtMs) : 0);
  }

  /** Something has changed: new data gets its checksums and hashes soon. */
  soon(): void {
    // Who was paused just now may read what was known to be damaged before.
    this.#mark();
    if (!this.#started || this.#sealTimer !== undefined || this.#stop.signal.aborted) return;
    this.#sealTimer = setTimeout(() => {
      this.#sealTimer = undefined;
      this.#inBackground("data_not_sealed", () => this.sealAll());
    }, this.#delays.sealMs);
  }

  /** Gives the data of all snapshots that somebody needs checksums and hashes, where it has none. */
  async sealAll(): Promise<void> {
    const { layout, references } = this.#options;
    const roots = new Map([...references.roots()].map(({ manifest }) => [manifest.snapshot_id, manifest]));
    for (const id of this.#sealed.keys()) if (!roots.has(id)) this.#sealed.delete(id);
    for (const [id, manifest] of roots) {
      if (this.#sealed.get(id) === manifest) continue;
      await sealData(layout, id, this.#reading);
      this.#sealed.set(id, manifest);
    }
  }

  /**
   * Reads everything once, or what a pass that was cut short has left.
   * @returns what is not good. @throws Deno.errors when the state cannot be written; the signal's reason when the verifier is disposed.
   */
  async verifyAll(): Promise<VerifiedFile[]> {
    const run = this.#last.then(() => withSpan("snapshots.verify", {}, (span) => this.#pass(span)));
    this.#last = run.catch(() => {});
    return await run;
  }

  /** Takes verdicts of a verification that somebody has asked for. */
  async note(verified: VerifiedFile[]): Promise<void> {
    const changed = verified.filter((file) => this.#options.damage.note(file));
    if (changed.length === 0) return;
    this.#mark();
    await this.#save(true);
  }

  async #pass(span: { setAttributes(attributes: Record<string, number>): unknown }): Promise<VerifiedFile[]> {
    const { layout, damage } = this.#options;
    const state = this.#state;
    if (state.cursor === null) {
      state.beganAtMs = Date.now();
      state.cursor = "";
    }
    const ids = (await namesIn(layout.snapshots)).filter(isId);
    const bad: VerifiedFile[] = [];
    let [files, bytes] = [0, 0];
    for (const id of ids.filter((id) => id > state.cursor!)) {
      const verified = await this.#verifyOne(id);
      state.cursor = id;
      await this.note(verified);
      await this.#save(false);
      files += verified.length;
      bytes += verified.reduce((sum, file) => sum + file.bytes, 0);
      bad.push(...verified.filter(({ verdict }) => verdict === "damaged" || verdict === "missing"));
    }
    state.cursor = null;
    if (damage.forgetOthersThan(new Set([...ids, ...bad.map(({ snapshotId }) => snapshotId)]))) this.#mark();
    await this.#save(true);
    span.setAttributes({ "torpor.files": files, "torpor.bytes": bytes, "torpor.damaged": bad.length });
    log("info", "snapshots_verified", { files, bytes, damaged: bad.length });
    for (const { snapshotId, file, verdict } of bad) {
      log("error", "snapshot_data_damaged", { snapshot_id: snapshotId, file, verdict });
    }
    return bad;
  }

  /** A snapshot that cannot be read for a reason that is no damage does not keep the others from being read. */
  async #verifyOne(snapshotId: string): Promise<VerifiedFile[]> {
    const { layout, references } = this.#options;
    try {
      await sealData(layout, snapshotId, this.#reading);
      const verified = await verifyOwnData(layout, snapshotId, this.#reading);
      // What nobody holds is given back at any time, in any order.
      const isHeld = [...references.roots()].some(({ manifest }) => manifest.snapshot_id === snapshotId);
      return isHeld ? verified : verified.filter(({ verdict }) => verdict !== "missing");
    } catch (error) {
      this.#stop.signal.throwIfAborted();
      log("error", "snapshot_not_verified", { snapshot_id: snapshotId }, error);
      return [];
    }
  }

  /** Everybody who holds a snapshot sees what is known of it. */
  #mark(): void {
    const { references, damage } = this.#options;
    if (damage.size === 0 && !this.#marked) return;
    this.#marked = damage.size > 0;
    for (const root of references.roots()) {
      const known = damage.of(root);
      root.damage = known.length > 0 ? known : undefined;
    }
  }

  /** One at a time: both ways to write use the same temporary name. */
  async #save(durably: boolean): Promise<void> {
    const { layout, damage } = this.#options;
    const save = this.#saved.then(() =>
      writeVerificationState(layout, { ...this.#state, damaged: damage.all }, durably)
    );
    this.#saved = save.catch(() => {});
    await save;
  }

  /** A clock that was set back must not put it off by more than an interval, ms. */
  #untilNext(beganAtMs: number): number {
    const { intervalMs } = this.#options;
    return Math.min(intervalMs, beganAtMs + intervalMs - Date.now());
  }

  #arm(dueInMs: number): void {
    if (this.#stop.signal.aborted) return;
    this.#passTimer = setTimeout(() => {
      this.#inBackground("verification_failed", async () => {
        try {
          await this.verifyAll();
        } finally {
          this.#arm(this.#untilNext(this.#state.beganAtMs));
        }
      });
    }, Math.max(dueInMs, this.#delays.passMs));
  }

  #inBackground(event: string, work: () => Promise<unknown>): void {
    const running = work().catch((error) => {
      // What was not read now is read the next time.
      if (!this.#stop.signal.aborted) log("error", event, {}, error);
    });
    this.#running.add(running);
    running.finally(() => this.#running.delete(running));
  }

  /** Ends what runs between two reads. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#passTimer);
    clearTimeout(this.#sealTimer);
    await Promise.all([...this.#running, this.#last, this.#saved]);
  }
}
