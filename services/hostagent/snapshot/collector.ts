import { constants } from "node:os";
import { exchange, NativeError } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import { count, log, withSpan } from "@torpor/telemetry";
import { hasReflinks } from "../storage/reflink.ts";
import { isDiskFull } from "../storage/disk_full.ts";
import { removeIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { type CollectedData, collectUnreferenced } from "./collect.ts";
import { compact, findCompactions } from "./compact.ts";
import { COMPACTION_LIMITS, type CompactionGroup, type CompactionLimits } from "./compaction_choice.ts";
import { findDiskPairs, storeAsDifference } from "./disk_difference.ts";
import type { SnapshotStore } from "./rewrite.ts";
import { shareEqualData } from "./share_equal.ts";

/** After a change: long enough that a resume right after a pause finds its snapshot at rest. */
const DELAY_MS = 30_000;

/** What a collector works with. */
export interface CollectorOptions extends SnapshotStore {
  /** Between two collections in the background; 0: only when asked. */
  intervalMs: number;
  limits?: CompactionLimits;
}

/**
 * Gives disk space back: removes what nothing refers to, copies together what is mostly dead, and stores disks as
 * differences. One collection at a time, beside the operations of sandboxes; what those use is left alone.
 */
export class Collector implements AsyncDisposable {
  readonly #options: CollectorOptions;
  readonly #stop = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #dueAtMs = Infinity;
  #started = false;
  #last: Promise<unknown> = Promise.resolve();
  #reflinks: boolean | undefined;
  #exchanges: boolean | undefined;
  /** Disks that are not worth being differences: a snapshot's disk never changes. */
  readonly #wholeDisks = new Set<string>();

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  /** Collects in the background from now on: everybody who needs a snapshot has registered that. */
  start(): void {
    this.#started = this.#options.intervalMs > 0;
    this.soon();
  }

  /** Something has changed: a collection in the background will come soon. */
  soon(): void {
    if (this.#started && performance.now() + DELAY_MS < this.#dueAtMs) this.#arm(DELAY_MS);
  }

  /**
   * Collects now, after the collection that is under way.
   * @param dryRun tells what would go, and changes nothing.
   * @throws TorporError `snapshot_corrupt` when a table cannot be read any more; NativeError, Deno.errors. On a full disk it
   *   does what needs no room.
   */
  async collect(dryRun = false): Promise<CollectedData[]> {
    const run = this.#last.then(() =>
      withSpan("snapshots.collect", { "torpor.dry_run": dryRun }, async (span) => {
        const collected = dryRun ? await this.#preview() : await this.#run();
        span.setAttribute("torpor.bytes", collected.reduce((sum, { bytes }) => sum + bytes, 0));
        if (!dryRun) collected.forEach(({ action, bytes }) => countCollected(action, bytes));
        return collected;
      })
    );
    this.#last = run.catch(() => {});
    return await run;
  }

  async #preview(): Promise<CollectedData[]> {
    const unreferenced = await collectUnreferenced(this.#options, true);
    try {
      this.#exchanges ??= await canExchange(this.#options.layout);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
    }
    if (!this.#exchanges) return unreferenced;
    const groups = await findCompactions(this.#options, this.#limits);
    return [...unreferenced, ...groups.flatMap(describe)];
  }

  async #run(): Promise<CollectedData[]> {
    const collected = await collectUnreferenced(this.#options, false);
    try {
      this.#exchanges ??= await canExchange(this.#options.layout);
      if (this.#exchanges) collected.push(...await this.#compact());
      if (this.#exchanges) await this.#storeDifferences();
      await this.#shareEqual();
    } catch (error) {
      // What writes anew needs room first. What could be given back without any has been.
      if (!isDiskFull(error)) throw error;
      log("warn", "not_compacted", {}, error);
    }
    return collected;
  }

  async #compact(): Promise<CollectedData[]> {
    const groups = await findCompactions(this.#options, this.#limits);
    const { signal } = this.#stop;
    for (const group of groups) {
      signal.throwIfAborted();
      await compact(this.#options, group, signal);
    }
    if (groups.length === 0) return [];
    // The victims, and files that no reader could be given.
    await collectUnreferenced(this.#options, false);
    return groups.flatMap(describe);
  }

  async #storeDifferences(): Promise<void> {
    // Some damaged table may read a disk that would no longer be whole.
    if (!this.#options.references.current().complete) return;
    // A resumed disk shares its blocks with the snapshot's there already.
    this.#reflinks ??= await hasReflinks(this.#options.layout.staging);
    if (this.#reflinks) return;
    for (const pair of await findDiskPairs(this.#options)) {
      const { snapshot_id } = pair.snapshot.manifest;
      if (this.#wholeDisks.has(snapshot_id)) continue;
      this.#stop.signal.throwIfAborted();
      const saved = await storeAsDifference(this.#options, pair);
      countCollected("difference", saved);
      if (saved > 0) log("info", "disk_difference_stored", { snapshot_id, bytes: saved });
      else this.#wholeDisks.add(snapshot_id);
    }
  }

  /** Last: what has become a difference needs no second name, and small differences may be equal, too. */
  async #shareEqual(): Promise<void> {
    const saved = await shareEqualData(this.#options, this.#stop.signal);
    countCollected("shared", saved);
    if (saved > 0) log("info", "equal_data_shared", { bytes: saved });
  }

  get #limits(): CompactionLimits {
    return this.#options.limits ?? COMPACTION_LIMITS;
  }

  #arm(delayMs: number): void {
    if (this.#stop.signal.aborted) return;
    clearTimeout(this.#timer);
    this.#dueAtMs = performance.now() + delayMs;
    this.#timer = setTimeout(() => this.#background(), delayMs);
  }

  async #background(): Promise<void> {
    try {
      const collected = await this.collect();
      for (const { snapshotId, action, bytes } of collected) {
        log("info", "snapshot_data_collected", { snapshot_id: snapshotId, action, bytes });
      }
    } catch (error) {
      // Space is lost until the next time, nothing else.
      if (!this.#stop.signal.aborted) log("error", "collection_failed", {}, error);
    }
    this.#arm(this.#options.intervalMs);
  }

  /** Ends what runs where that is safe. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#timer);
    await this.#last;
  }
}

/** Whether the file system can exchange two directories. Without that nothing is rewritten. */
async function canExchange({ staging }: Layout): Promise<boolean> {
  const paths = [`${staging}/exchange-probe-${newId()}`, `${staging}/exchange-probe-${newId()}`] as const;
  try {
    for (const path of paths) await Deno.mkdir(path, { recursive: true });
    exchange(...paths);
    return true;
  } catch (error) {
    if (!(error instanceof NativeError) || isDiskFull(error) || error.errno === constants.errno.ENOENT) throw error;
    log("warn", "directories_not_exchanged", {}, error);
    return false;
  } finally {
    for (const path of paths) await removeIfPresent(path);
  }
}

function countCollected(action: CollectedData["action"] | "difference" | "shared", bytes: number): void {
  count("torpor.snapshot.collected", bytes, { "torpor.collection": action });
}

function describe({ savedBytes }: CompactionGroup): CollectedData[] {
  return [...savedBytes].map(([snapshotId, bytes]) => ({ snapshotId, action: "compacted", bytes }));
}
