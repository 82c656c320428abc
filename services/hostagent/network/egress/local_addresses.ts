/** How long a look at the interfaces serves: each has a line for each slot. */
const LOOK_MS = 1000;

/** The addresses of this machine, public ones included: a name of one must not lead a guest to the host's own services. */
export class LocalAddresses {
  #addresses = new Set<string>();
  #lookedAt = -Infinity;

  includes(address: string): boolean {
    const now = performance.now();
    if (now - this.#lookedAt > LOOK_MS) {
      this.#addresses = new Set(Deno.networkInterfaces().map((each) => each.address));
      this.#lookedAt = now;
    }
    return this.#addresses.has(address);
  }
}
