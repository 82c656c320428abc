import { TorporError } from "@torpor/errors";
import { withAbortableBody } from "./abortable_body.ts";
import type { Address } from "./address.ts";
import type { CredentialsSource } from "./tls/credentials.ts";
import { openHttpsFetch } from "./tls/https_fetch.ts";

/** A fetch that reaches one address, whatever its transport. Dispose it to close its connections. */
export interface AddressFetch extends Disposable {
  fetch: typeof globalThis.fetch;
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
    return { baseUrl: "https://peer", ...openHttpsFetch(address, credentials) };
  }
  const client = address.transport === "unix"
    ? Deno.createHttpClient({ proxy: { transport: "unix", path: address.path } })
    : Deno.createHttpClient({});
  return {
    baseUrl: address.transport === "unix" ? "http://localhost" : `http://${address.hostname}:${address.port}`,
    fetch: async (input, init) => {
      const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined);
      const response = await globalThis.fetch(input, { ...init, client } as RequestInit & { client: Deno.HttpClient });
      return withAbortableBody(response, signal);
    },
    [Symbol.dispose]: () => client.close(),
  };
}
