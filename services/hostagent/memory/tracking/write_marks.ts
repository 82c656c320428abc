import { orInto } from "./bitmap.ts";
import type { RemovedState } from "./removed_since.ts";

/**
 * How far the kernel's marks of written pages can be relied on. They count from the parent snapshot on, but taking them
 * while the guest runs clears them: what was taken is kept here until a committed snapshot accounts for it.
 */
export class WriteMarks {
  #complete: boolean;
  #taken: Uint8Array<ArrayBuffer> | undefined;
  #removed: RemovedState | undefined;

  /** @param complete the kernel's marks name every page that was written since the parent. */
  constructor(complete: boolean) {
    this.#complete = complete;
  }

  /** The kernel's marks, and what was taken of them, name every page that was written since the parent. */
  get complete(): boolean {
    return this.#complete;
  }

  /** So they do for a successor of this agent, which does not have what was taken. */
  get completeInKernel(): boolean {
    return this.#complete && this.#taken === undefined;
  }

  /** What was taken; undefined: nothing. */
  get taken(): Uint8Array<ArrayBuffer> | undefined {
    return this.#taken;
  }

  /** Marks are going to be taken: to be recorded (`completeInKernel`) before the first one is. */
  beginTaking(bitmapBytes: number): void {
    this.#taken ??= new Uint8Array(bitmapBytes);
  }

  /** Keeps marks that were taken. */
  take(marks: Uint8Array): void {
    orInto(this.#taken!, marks);
  }

  /** Nobody knows any more what was written. */
  lose(): void {
    this.#complete = false;
    this.#taken = undefined;
  }

  /** What the guest had given back when the parent was taken; undefined: nothing, or it is not known. */
  get removed(): RemovedState | undefined {
    return this.#removed;
  }

  /** A new parent accounts for all that was taken and given back until now; the kernel's marks count from it. */
  restart(removed: RemovedState | undefined): void {
    this.#complete = true;
    this.#taken = undefined;
    this.#removed = removed;
  }
}
