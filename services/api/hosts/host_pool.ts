import type { HostClient, HostClients } from "@torpor/lifecycle";
import { type AddressFetch, type CredentialsSource, openAddressFetch, parseAddress } from "@torpor/rpc";

/** The two ways to a host agent: calls, and plain HTTP bodies for the bytes of files. */
export interface HostConnection {
  rpc: HostClient;
  http: AddressFetch;
}

/** Connections to host agents by their address, opened on first use and kept. Dispose it to close those for bytes. */
export class HostPool implements Disposable {
  readonly #byteConnections = new Map<string, AddressFetch>();

  /**
   * @param clients for calls; shared with the lifecycle, and closed by who made them.
   * @param token the internal token, for requests over {@linkcode HostConnection.http}.
   * @param credentials for hosts at `https:` addresses.
   */
  constructor(
    private readonly clients: HostClients,
    readonly token: string,
    private readonly credentials?: CredentialsSource,
  ) {}

  /** The connection to the host agent at `address` (`unix:/path`, `http://host:port` or `https://host:port#peer`). */
  at(address: string): HostConnection {
    let http = this.#byteConnections.get(address);
    if (!http) {
      http = openAddressFetch(parseAddress(address), this.credentials);
      this.#byteConnections.set(address, http);
    }
    return { rpc: this.clients.at(address), http };
  }

  [Symbol.dispose](): void {
    for (const http of this.#byteConnections.values()) http[Symbol.dispose]();
    this.#byteConnections.clear();
  }
}
