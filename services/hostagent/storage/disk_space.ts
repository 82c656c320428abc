import { statfs } from "node:fs/promises";
import { TorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";

const MB = 2 ** 20;

/** Whether what is written may use what is kept for pauses. */
export type RoomOptions = { mayUseReserve: boolean };

/**
 * Room on the data directory's file system. A part of it, the reserve, is kept for pauses: so that what runs can be saved
 * when nothing new fits any more. Who is about to write much claims room first, and is refused before anything is stopped.
 */
export class DiskSpace {
  readonly reserveBytes: number;
  readonly #directory: string;
  readonly #onFull: () => void;
  #claimedBytes = 0;
  #full = false;

  /**
   * @param directory on the file system.
   * @param reserveBytes 0: nothing is kept, but what cannot fit is still refused.
   * @param onFull called when less than the reserve is free, and was not before.
   */
  constructor(directory: string, reserveBytes: number, onFull: () => void = () => {}) {
    this.#directory = directory;
    this.reserveBytes = reserveBytes;
    this.#onFull = onFull;
  }

  /** Bytes that can still be claimed; below 0 when the reserve is in use. */
  async room(options: RoomOptions): Promise<number> {
    return this.#roomOf(await this.#freeBytes(), options);
  }

  /** Whether the reserve is in use: nothing new should come to this host. */
  async isFull(): Promise<boolean> {
    await this.#freeBytes();
    return this.#full;
  }

  /**
   * Sets room aside until the result is disposed. What has been written of it meanwhile counts twice.
   * @param bytes at most.
   * @throws TorporError `no_space`.
   */
  async claim(bytes: number, options: RoomOptions): Promise<Disposable> {
    const free = await this.#freeBytes();
    // Looked at and taken in one turn: two that ask at once do not get the same room.
    const room = this.#roomOf(free, options);
    if (bytes > room) throw this.#refusal(bytes, room, options);
    this.#claimedBytes += bytes;
    return { [Symbol.dispose]: () => void (this.#claimedBytes -= bytes) };
  }

  async #freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#directory);
    const free = bavail * bsize;
    this.#note(free);
    return free;
  }

  #roomOf(free: number, { mayUseReserve }: RoomOptions): number {
    return free - this.#claimedBytes - (mayUseReserve ? 0 : this.reserveBytes);
  }

  #refusal(bytes: number, room: number, { mayUseReserve }: RoomOptions): TorporError {
    const kept = mayUseReserve ? "" : `, and ${Math.round(this.reserveBytes / MB)} MiB are kept for pauses`;
    return new TorporError(
      "no_space",
      `the host's disk has no room for ${Math.ceil(bytes / MB)} MiB: ${
        Math.floor(Math.max(room, 0) / MB)
      } MiB are free${kept}`,
      {
        hint: "delete sandboxes or snapshots, or collect what nothing refers to (torpor snapshot gc)",
        retryAfterSec: 60,
      },
    );
  }

  #note(free: number): void {
    const full = free < this.reserveBytes;
    if (full === this.#full) return;
    this.#full = full;
    log(full ? "warn" : "info", full ? "disk_full" : "disk_has_room", {
      free_bytes: free,
      reserve_bytes: this.reserveBytes,
    });
    if (full) this.#onFull();
  }
}
