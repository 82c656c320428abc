import type { Database } from "@torpor/db";
import { ControlCredentials, DEFAULT_CERTIFICATE_LIFE_MS } from "./control_credentials.ts";
import { openStoredAuthority } from "./stored_authority.ts";

/**
 * The certificate of a service of the control plane, made when a host is first called over TLS: where all is on one
 * machine nobody needs one, nor an authority.
 */
export class LazyControlCredentials implements AsyncDisposable {
  #opening: Promise<ControlCredentials> | undefined;

  /** @param token TORPOR_INTERNAL_TOKEN. @param peer one of CONTROL_PEERS. */
  constructor(private readonly database: Database, private readonly token: string, private readonly peer: string) {}

  /** The credentials; a failure is not kept. */
  readonly get = async (): Promise<ControlCredentials> => {
    const opening = this.#opening ??= this.#open();
    try {
      return await opening;
    } catch (thrown) {
      if (this.#opening === opening) this.#opening = undefined;
      throw thrown;
    }
  };

  async #open(): Promise<ControlCredentials> {
    const authority = await openStoredAuthority(this.database, this.token);
    return await ControlCredentials.open(authority, this.peer, DEFAULT_CERTIFICATE_LIFE_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opened = await this.#opening?.catch(() => undefined);
    opened?.[Symbol.dispose]();
  }
}
