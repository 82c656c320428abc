/** Bytes in pieces, up to a limit. */
export class ByteCollector {
  readonly #limitBytes: number;
  readonly #pieces: Uint8Array[] = [];
  #length = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** false: the limit would be passed; nothing was added. */
  add(piece: Uint8Array): boolean {
    if (this.#length + piece.length > this.#limitBytes) return false;
    this.#pieces.push(piece);
    this.#length += piece.length;
    return true;
  }

  /** All bytes in one array. */
  join(): Uint8Array<ArrayBuffer> {
    const whole = new Uint8Array(this.#length);
    let at = 0;
    for (const piece of this.#pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  }
}
