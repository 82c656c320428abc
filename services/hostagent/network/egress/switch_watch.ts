const MAX_HEAD_BYTES = 16_384;
const STATUS_LINE = /^HTTP\/1\.1 (\d{3})[ \r]/;

/** Watches a server's response for `101 Switching Protocols`; other interim responses may come before it. */
export class SwitchWatch {
  #text = "";
  #decided = false;
  #switched = false;

  /** The server has switched: what the client sends is no request any more. */
  get switched(): boolean {
    return this.#switched;
  }

  /** Takes the next bytes of the response. */
  take(bytes: Uint8Array): void {
    if (this.#decided) return;
    this.#text += String.fromCharCode(...bytes.subarray(0, MAX_HEAD_BYTES));
    for (let end = this.#text.indexOf("\r\n\r\n"); end !== -1; end = this.#text.indexOf("\r\n\r\n")) {
      const status = Number(STATUS_LINE.exec(this.#text)?.[1]);
      if (!(status >= 100 && status < 200) || status === 101) return this.#decide(status === 101);
      this.#text = this.#text.slice(end + 4);
    }
    if (this.#text.length > MAX_HEAD_BYTES) this.#decide(false);
  }

  #decide(switched: boolean): void {
    this.#decided = true;
    this.#switched = switched;
    this.#text = "";
  }
}
