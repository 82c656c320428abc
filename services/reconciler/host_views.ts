/**
 * How far a host's inventory has been compared: the only thing that a pass knows of the passes before it. Losing it costs
 * one complete comparison, nothing else.
 */
export interface HostView {
  /** The run of the host agent whose changes are counted; "" until the first comparison. */
  epoch: string;
  /** Changes up to this one have been compared. */
  revision: bigint;
  /** Rows that changed before this time, by the database's clock, have been compared; undefined: nothing has. */
  comparedUntil: Date | undefined;
  /** Where the next page begins of the comparison that goes round everything, changed or not; "" at the first id. */
  pageAfterId: string;
  /** Sandboxes that must be looked at again although nothing about them changes: young orphans, repairs not done. */
  watched: Set<string>;
  snapshots: SnapshotView;
}

/** The same about the host's snapshots that belong to no sandbox, which have no pages. */
export type SnapshotView = Pick<HostView, "epoch" | "revision" | "comparedUntil" | "watched"> & {
  /** Passes since all of them were compared. */
  passes: number;
};

/** The views of one term of leadership. */
export class HostViews {
  #views = new Map<string, HostView>();

  /** The view of a host, a new one when nothing is known of it. */
  of(hostId: string): HostView {
    let view = this.#views.get(hostId);
    if (!view) this.#views.set(hostId, view = newView());
    return view;
  }

  /** The host's next comparison is complete: it was away, or another replica has led meanwhile. */
  forget(hostId: string): void {
    this.#views.delete(hostId);
  }

  /** Forgets hosts that are no longer there. */
  keepOnly(hostIds: ReadonlySet<string>): void {
    for (const id of this.#views.keys()) if (!hostIds.has(id)) this.#views.delete(id);
  }
}

function newView(): HostView {
  const nothing = () => ({ epoch: "", revision: 0n, comparedUntil: undefined, watched: new Set<string>() });
  return { ...nothing(), pageAfterId: "", snapshots: { ...nothing(), passes: 0 } };
}
