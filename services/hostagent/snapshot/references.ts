import type { Manifest } from "@torpor/snapshot";
import type { FoundSnapshot } from "./sweep.ts";
import type { TableReads } from "./table_reads.ts";

/** What must stay on disk now. */
export interface References {
  /** Snapshots of which every file stays. */
  whole: ReadonlySet<string>;
  /** Snapshots whose `memory.data` is read by the table of one that stays. */
  data: ReadonlySet<string>;
  /** Snapshots whose disk is read by the disk table of one that stays. */
  disks: ReadonlySet<string>;
  /** Sandboxes whose newest generation has a damaged table: an older one may be all that is left of them. */
  spared: ReadonlySet<string>;
  /** False: somebody's table cannot be read, so what it needs is not known, and all data stays. */
  complete: boolean;
}

/** A snapshot that cannot be used, and may keep the data of others. */
export interface DamagedSnapshot {
  snapshotId: string;
  /** What cannot be read; `memory.header` stands for either table. */
  file: "manifest.json" | "memory.header";
  /** Empty when nobody knows. */
  sandboxId: string;
  /** Whether it is known what its tables read. */
  referencesKnown: boolean;
}

/** Whether the `memory.data` of a snapshot is read, or may be. */
export function isMemoryRead({ complete, data }: References, snapshotId: string): boolean {
  return !complete || data.has(snapshotId);
}

/** Whether the disk of a snapshot is read, or may be. */
export function isDiskRead({ complete, disks }: References, snapshotId: string): boolean {
  return !complete || disks.has(snapshotId);
}

/** Whether a replaced generation stays for whoever repairs its sandbox. */
export function isSpared(manifest: Manifest | undefined, { spared }: References): boolean {
  return manifest?.kind === "generation" && spared.has(manifest.sandbox_id);
}

/**
 * Who refers to the snapshots of this host. The roots are asked anew each time: newest generations of sandboxes, kept
 * snapshots, parents of running VMs, and what an operation in flight has pinned. A new snapshot's table is made from that
 * of a root, so what nothing refers to can never be referred to again.
 */
export class SnapshotReferences {
  readonly #roots = new Set<() => Iterable<FoundSnapshot>>();
  readonly #users = new Set<() => Iterable<string>>();
  readonly #damaged = new Map<string, TableReads>();

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

  /** Notes a snapshot whose manifest cannot be read: it stays, with what its tables read, until it is forgotten. */
  noteDamaged(snapshotId: string, reads: TableReads): void {
    this.#damaged.set(snapshotId, reads);
  }

  /** Whoever it belonged to does not want it any more. @returns what was noted. */
  forgetDamaged(snapshotId: string): TableReads | undefined {
    const reads = this.#damaged.get(snapshotId);
    this.#damaged.delete(snapshotId);
    return reads;
  }

  /** Snapshots whose manifests cannot be read. */
  get unreadable(): ReadonlyMap<string, TableReads> {
    return this.#damaged;
  }

  /** Everything that cannot be used because its manifest or a table is damaged. */
  damaged(): DamagedSnapshot[] {
    const damaged = new Map<string, DamagedSnapshot>();
    for (const [snapshotId, { sources }] of this.#damaged) {
      const referencesKnown = sources !== undefined;
      damaged.set(snapshotId, { snapshotId, file: "manifest.json", sandboxId: "", referencesKnown });
    }
    for (const { manifest: { snapshot_id: snapshotId, sandbox_id: sandboxId }, sources } of this.roots()) {
      if (sources || damaged.has(snapshotId)) continue;
      damaged.set(snapshotId, { snapshotId, file: "memory.header", sandboxId, referencesKnown: false });
    }
    return [...damaged.values()];
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

/** What some roots need. @param unreadable snapshots without a manifest that can be read, and what they read. */
export function referencesOf(
  roots: Iterable<FoundSnapshot>,
  unreadable: ReadonlyMap<string, TableReads>,
): References {
  const whole = new Set<string>();
  const data = new Set<string>();
  const disks = new Set<string>();
  const spared = new Set<string>();
  let complete = true;
  const need = (snapshotId: string, { sources, diskSources = [] }: TableReads) => {
    whole.add(snapshotId);
    for (const source of sources ?? []) data.add(source);
    for (const source of diskSources) disks.add(source);
    complete &&= sources !== undefined;
  };
  for (const [snapshotId, reads] of unreadable) need(snapshotId, reads);
  for (const { manifest, ...reads } of roots) {
    need(manifest.snapshot_id, reads);
    if (!reads.sources && manifest.kind === "generation") spared.add(manifest.sandbox_id);
  }
  return { whole, data, disks, spared, complete };
}
