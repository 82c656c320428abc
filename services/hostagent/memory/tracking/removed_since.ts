import { countBits } from "./bitmap.ts";

/** What a guest has given back at one moment. */
export interface RemovedState {
  /** Pages given back since the resume, each as often as it was. */
  count: number;
  /** Which ones. */
  pages: Uint8Array<ArrayBuffer>;
}

/** Where a pager notes what the guest gives back. */
export interface RemovedSource {
  stats(): { removedPages: number };
  removedPages(): Uint8Array<ArrayBuffer>;
}

/**
 * Pages given back since an earlier moment. The pager has one bit per page for ever: when a page was given back again, which
 * the count tells, all that ever were are named. Right when nothing is being given back meanwhile (the vCPUs stand still),
 * otherwise completed by the next call.
 */
export function removedSince(
  pager: RemovedSource,
  since: RemovedState | undefined,
): { removed: Uint8Array<ArrayBuffer>; now: RemovedState } {
  // The pager sets the bits before it counts: a count that is read first is never ahead of the bits.
  const now = { count: pager.stats().removedPages, pages: pager.removedPages() };
  if (!since) return { removed: now.pages.slice(), now };
  const added = now.pages.map((byte, at) => byte & ~since.pages[at]!);
  const onlyNew = now.count - since.count === countBits(added);
  return { removed: onlyNew ? added : now.pages.slice(), now };
}
