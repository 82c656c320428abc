import type { Address } from "./address.ts";

/** A fetch that reaches one address, whatever its transport. Dispose it to close its connections. */
export interface AddressFetch extends Disposable {
  fetch: typeof globalThis.fetch;
  /** Prefix for request URLs. */
  baseUrl: string;
}

/** Opens a {@linkcode AddressFetch}. Connections are made on demand and kept. */
export function openAddressFetch(address: Address): AddressFetch {
  const client = address.transport === "unix"
    ? Deno.createHttpClient({ proxy: { transport: "unix", path: address.path } })
    : Deno.createHttpClient({});
  return {
    baseUrl: address.transport === "unix" ? "http://localhost" : `http://${address.hostname}:${address.port}`,
    fetch: (input, init) => globalThis.fetch(input, { ...init, client } as RequestInit & { client: Deno.HttpClient }),
    [Symbol.dispose]: () => client.close(),
  };
}
