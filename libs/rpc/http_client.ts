import { TorporError } from "@torpor/errors";
import { withAbortableBody } from "./abortable_body.ts";
import type { Address } from "./address.ts";
import type { CredentialsSource } from "./tls/credentials.ts";
import { openHttpsFetch } from "./tls/https_fetch.ts";

/** A fetch that reaches one address, whatever its transport. Dispose it to close its connections. */
export interface AddressFetch extends Disposable {
  fetch: typeof globalThis.fetch;
  /** As `fetch`, but an abort may not reach a body that has begun; see {@linkcode withAbortableBody}. */
  fetchUnguarded: typeof globalThis.fetch;
  /** Prefix for request URLs. */
  baseUrl: string;
}

/**
 * Opens a {@linkcode AddressFetch}. Connections are made on demand and kept.
 * @param credentials needed for `https:` addresses. Requests to those carry no authorization header: who is called learns
 * by the certificate who calls, and need not know the token.
 */
export function openAddressFetch(address: Address, credentials?: CredentialsSource): AddressFetch {
  if (address.transport === "tls") {
    if (!credentials) throw new TorporError("config_invalid", "no certificate to call an https address with");
    const https = openHttpsFetch(address, credentials);
    return { baseUrl: "https://peer", fetchUnguarded: https.fetch, ...https };
  }
  const client = address.transport === "unix"
    ? Deno.createHttpClient({ proxy: { transport: "unix", path: address.path } })
    : Deno.createHttpClient({});
  const fetchUnguarded: typeof globalThis.fetch = (input, init) =>
    globalThis.fetch(input, { ...init, client } as RequestInit & { client: Deno.HttpClient });
  return {
    baseUrl: address.transport === "unix" ? "http://localhost" : `http://${address.hostname}:${address.port}`,
    fetch: async (input, init) => {
      const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined);
      return withAbortableBody(await fetchUnguarded(input, init), signal);
    },
    fetchUnguarded,
    [Symbol.dispose]: () => client.close(),
  };
}
