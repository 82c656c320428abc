import type { FoundSnapshot } from "./sweep.ts";

/** What must stay on disk now. */
export interface References {
  /** Snapshots of which every file stays. */
  whole: ReadonlySet<string>;
  /** Snapshots whose `memory.data` is read by the table of one that stays. */
  data: ReadonlySet<string>;
  /** Snapshots whose disk is read by the disk table of one that stays. */
  disks: ReadonlySet<string>;
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
  readonly #users = new Set<() => Iterable<string>>();
  readonly #damaged = new Set<string>();

  /** Adds roots until the result is disposed. */
  watch(roots: () => Iterable<FoundSnapshot>): Disposable {
    this.#roots.add(roots);
    return { [Symbol.dispose]: () => void this.#roots.delete(roots) };
  }

  /** Adds snapshots that somebody works with: their files must not be exchanged for others that say the same. */
  watchUse(ids: () => Iterable<string>): Disposable {
    this.#users.add(ids);
    return { [Symbol.dispose]: () => void this.#users.delete(ids) };
  }

  /** Keeps a snapshot, and what its table reads, until the result is disposed; it counts as being used. */
  pin(snapshot: FoundSnapshot): Disposable {
    const stack = new DisposableStack();
    stack.use(this.watch(() => [snapshot]));
    stack.use(this.watchUse(() => [snapshot.manifest.snapshot_id]));
    return stack;
  }

  /** Notes a snapshot whose manifest cannot be read: what it reads is not known, so nothing goes until it is forgotten. */
  noteDamaged(snapshotId: string): void {
    this.#damaged.add(snapshotId);
  }

  /** Whoever it belonged to does not want it any more. @returns whether it was noted. */
  forgetDamaged(snapshotId: string): boolean {
    return this.#damaged.delete(snapshotId);
  }

  /** All roots; a snapshot that is one for several reasons comes several times. */
  *roots(): Generator<FoundSnapshot> {
    for (const roots of this.#roots) yield* roots();
  }

  /** Whether a VM runs from a snapshot, or an operation has it in hand. */
  inUse(snapshotId: string): boolean {
    for (const ids of this.#users) {
      for (const id of ids()) if (id === snapshotId) return true;
    }
    return false;
  }

  /** Everybody who knows the snapshot knows from now on that it was written anew. */
  replace(replaced: FoundSnapshot): void {
    for (const root of this.roots()) {
      if (root.manifest.snapshot_id === replaced.manifest.snapshot_id) Object.assign(root, replaced);
    }
  }

  current(): References {
    return referencesOf(this.roots(), this.#damaged);
  }
}

/** What some roots need. @param damaged snapshots of which nothing else is known. */
export function referencesOf(roots: Iterable<FoundSnapshot>, damaged: ReadonlySet<string> = new Set()): References {
  const whole = new Set(damaged);
  const data = new Set<string>();
  const disks = new Set<string>();
  let complete = damaged.size === 0;
  for (const { manifest, sources, diskSources } of roots) {
    whole.add(manifest.snapshot_id);
    for (const source of sources ?? []) data.add(source);
    for (const source of diskSources ?? []) disks.add(source);
    complete &&= sources !== undefined;
  }
  return { whole, data, disks, complete };
}
