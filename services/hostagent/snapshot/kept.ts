import { TorporError } from "@torpor/errors";
import { requireId } from "@torpor/ids";
import { syncPath } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import type { SnapshotReferences } from "./references.ts";
import { releaseDamaged, releaseSnapshots } from "./release.ts";
import type { FoundSnapshot } from "./sweep.ts";

/** The snapshots of this host that belong to no sandbox: each stays until it is deleted by its id. */
export class KeptSnapshots {
  readonly #layout: Layout;
  readonly #references: SnapshotReferences;
  readonly #found = new Map<string, FoundSnapshot>();
  /** Without a readable manifest, and a sandbox says that they are its own. */
  readonly #ofSandboxes = new Set<string>();
  /** Ids of snapshots that are being made. */
  readonly #reserved = new Set<string>();

  constructor(layout: Layout, references: SnapshotReferences) {
    this.#layout = layout;
    this.#references = references;
    references.watch(() => this.#found.values());
  }

  list(): FoundSnapshot[] {
    return [...this.#found.values()];
  }

  /** Undefined when there is no such kept snapshot. */
  find(snapshotId: string): FoundSnapshot | undefined {
    return this.#found.get(snapshotId);
  }

  /** @throws TorporError `invalid_argument`, `snapshot_not_found`. */
  get(snapshotId: string): FoundSnapshot {
    const found = this.#found.get(requireId(snapshotId, "snapshot_id"));
    if (found) return found;
    throw new TorporError("snapshot_not_found", `no snapshot ${snapshotId} on this host`, { field: "snapshot_id" });
  }

  /**
   * Takes an id for a snapshot that is about to be made, until the result is disposed.
   * @throws TorporError `already_exists`, also when other snapshots still read data of one that had this id.
   */
  async reserve(snapshotId: string): Promise<Disposable> {
    if (this.#reserved.has(snapshotId)) throw taken(snapshotId);
    this.#reserved.add(snapshotId);
    try {
      await Deno.lstat(this.#layout.snapshot(snapshotId).directory);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) {
        return { [Symbol.dispose]: () => void this.#reserved.delete(snapshotId) };
      }
      this.#reserved.delete(snapshotId);
      throw error;
    }
    this.#reserved.delete(snapshotId);
    throw taken(snapshotId);
  }

  /** Notes a snapshot that was committed. */
  add(snapshot: FoundSnapshot): void {
    this.#found.set(snapshot.manifest.snapshot_id, snapshot);
  }

  /** Notes a damaged snapshot that goes with its sandbox. Others may be kept ones: they can be deleted here. */
  leaveToSandbox(snapshotId: string): void {
    this.#ofSandboxes.add(snapshotId);
  }

  /**
   * Deletes a kept snapshot; an id that is none is fine. What running VMs and other snapshots read of it stays until they
   * no longer do.
   * @throws TorporError `invalid_argument`, `conflict` while it is being made; Deno.errors (call again).
   */
  async delete(snapshotId: string): Promise<void> {
    const found = this.#found.get(requireId(snapshotId, "snapshot_id"));
    if (this.#reserved.has(snapshotId)) {
      throw new TorporError("conflict", `snapshot ${snapshotId} is being made`, { retryAfterSec: 1 });
    }
    if (!found) return await this.#deleteDamaged(snapshotId);
    this.#found.delete(snapshotId);
    try {
      const { manifest, deletedManifest, directory } = this.#layout.snapshot(snapshotId);
      // By renaming: that needs no space, and a restarted agent reads it for a VM that was resumed from it.
      await Deno.rename(manifest, deletedManifest);
      await syncPath(directory);
    } catch (error) {
      this.#found.set(snapshotId, found);
      throw error;
    }
    await releaseSnapshots(this.#layout, this.#references, [found]);
  }

  async #deleteDamaged(snapshotId: string): Promise<void> {
    if (this.#ofSandboxes.has(snapshotId)) return;
    await releaseDamaged(this.#layout, this.#references, snapshotId);
  }
}

function taken(snapshotId: string): TorporError {
  return new TorporError("already_exists", `snapshot ${snapshotId} exists on this host`, { field: "snapshot_id" });
}
