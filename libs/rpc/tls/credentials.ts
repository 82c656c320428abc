/** What a peer shows who it is with, and checks others by. All PEM. */
export interface KeyPair {
  certificate: string;
  /** PKCS #8. It never leaves the machine that made it. */
  key: string;
  /** The authority's certificate: whoever has one that it issued belongs to this deployment. */
  authority: string;
}

/** Credentials, or how to get them: many processes never need any. */
export type CredentialsSource = Credentials | (() => Promise<Credentials>);

/**
 * The present certificate of a process. When it is replaced, new connections use the new one, and connections that are
 * open go on: TLS asks for certificates at the beginning of a connection only.
 */
export class Credentials {
  #current: KeyPair;
  readonly #listeners = new Set<(next: KeyPair) => void>();

  constructor(first: KeyPair) {
    this.#current = first;
  }

  get current(): KeyPair {
    return this.#current;
  }

  /** Puts another certificate in the place of the present one. */
  replace(next: KeyPair): void {
    this.#current = next;
    for (const listener of this.#listeners) listener(next);
  }

  /** Calls `listener` with each later certificate, until the result is disposed. */
  onReplace(listener: (next: KeyPair) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }
}
