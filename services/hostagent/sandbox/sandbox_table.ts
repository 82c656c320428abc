import { requireId } from "@torpor/ids";
import { TorporError } from "@torpor/errors";
import type { SnapshotReferences } from "../snapshot/references.ts";
import { releaseSnapshots } from "../snapshot/release.ts";
import type { FoundSnapshot } from "../snapshot/sweep.ts";
import type { Layout } from "../storage/layout.ts";
import type { Sandbox } from "./sandbox.ts";

/** What this host knows of sandboxes, by their ids. */
export class SandboxTable {
  readonly #layout: Layout;
  readonly #references: SnapshotReferences;
  readonly #sandboxes = new Map<string, Sandbox>();
  /** Snapshots without a sandbox record; only destroy removes them. */
  readonly #orphans: Map<string, FoundSnapshot>;

  /** From now on their snapshots count as referred to. */
  constructor(layout: Layout, references: SnapshotReferences, orphans: Map<string, FoundSnapshot>) {
    this.#layout = layout;
    this.#references = references;
    this.#orphans = orphans;
    references.watch(() => this.list().flatMap(({ snapshots }) => snapshots));
    references.watch(() => orphans.values());
    references.watchUse(() => this.list().flatMap(({ snapshotsInUse }) => snapshotsInUse));
  }

  /** All sandboxes, in no order. */
  list(): Sandbox[] {
    return [...this.#sandboxes.values()];
  }

  /** Ids of all sandboxes and of those of which only a snapshot is left. */
  ids(): Set<string> {
    return new Set([...this.#sandboxes.keys(), ...this.#orphans.keys()]);
  }

  find(sandboxId: string): Sandbox | undefined {
    return this.#sandboxes.get(sandboxId);
  }

  /** @throws TorporError `invalid_argument`, `sandbox_not_found`. */
  get(sandboxId: string): Sandbox {
    const sandbox = this.#sandboxes.get(requireId(sandboxId, "sandbox_id"));
    if (!sandbox) throw new TorporError("sandbox_not_found", `no sandbox ${sandboxId} on this host`);
    return sandbox;
  }

  /** @throws TorporError `sandbox_not_found`, `conflict` when it is not running. */
  running(sandboxId: string): Sandbox {
    const sandbox = this.get(sandboxId);
    // It runs on while a snapshot of it is made.
    const runs = sandbox.status === "running" || sandbox.status === "snapshotting";
    if (runs && sandbox.vm && !sandbox.vm.ended) return sandbox;
    throw new TorporError("conflict", `sandbox ${sandboxId} is ${sandbox.status}`, {
      hint: sandbox.status === "paused" ? "resume it first" : undefined,
    });
  }

  add(sandbox: Sandbox): void {
    this.#sandboxes.set(sandbox.id, sandbox);
  }

  delete(sandboxId: string): void {
    this.#sandboxes.delete(sandboxId);
  }

  /** Releases the snapshot that a sandbox without a record has left; none is fine. */
  async removeOrphan(sandboxId: string): Promise<void> {
    const orphan = this.#orphans.get(sandboxId);
    this.#orphans.delete(sandboxId);
    try {
      await releaseSnapshots(this.#layout, this.#references, [orphan]);
    } catch (error) {
      if (orphan) this.#orphans.set(sandboxId, orphan);
      throw error;
    }
  }
}
