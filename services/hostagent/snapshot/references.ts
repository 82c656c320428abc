import type { FoundSnapshot } from "./sweep.ts";

/** What must stay on disk now. */
export interface References {
  /** Snapshots of which every file stays. */
  whole: ReadonlySet<string>;
  /** Snapshots whose data is read by the table of one that stays. */
  data: ReadonlySet<string>;
  /** False: somebody's table cannot be read, so what it needs is not known. */
  complete: boolean;
}

/**
 * Who refers to the snapshots of this host. The roots are asked anew each time: newest generations of sandboxes, kept
 * snapshots, parents of running VMs, and what an operation in flight has pinned. A new snapshot's table is made from that
 * of a root, so what nothing refers to can never be referred to again.
 */
export class SnapshotReferences {
  readonly #roots = new Set<() => Iterable<FoundSnapshot>>();

  /** Adds roots until the result is disposed. */
  watch(roots: () => Iterable<FoundSnapshot>): Disposable {
    this.#roots.add(roots);
    return { [Symbol.dispose]: () => void this.#roots.delete(roots) };
  }

  /** Keeps a snapshot, and what its table reads, until the result is disposed. */
  pin(snapshot: FoundSnapshot): Disposable {
    return this.watch(() => [snapshot]);
  }

  current(): References {
    const whole = new Set<string>();
    const data = new Set<string>();
    let complete = true;
    for (const roots of this.#roots) {
      for (const { manifest, sources } of roots()) {
        whole.add(manifest.snapshot_id);
        for (const source of sources ?? []) data.add(source);
        complete &&= sources !== undefined;
      }
    }
    return { whole, data, complete };
  }
}
