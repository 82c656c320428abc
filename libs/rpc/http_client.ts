import { TorporError } from "@torpor/errors";
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
      return signal ? withAbortableBody(response, signal) : response;
    },
    [Symbol.dispose]: () => client.close(),
  };
}

/**
 * Deno 2.9.6 forgets the abort signal of a fetch at the first garbage collection after the response has begun: the body
 * of an aborted request then stays open, and the server goes on with it for ever. A cancelled reader is never forgotten,
 * so the abort becomes one here. Test: "an abort reaches the server after a garbage collection".
 */
function withAbortableBody(response: Response, signal: AbortSignal): Response {
  if (response.body === null) return response;
  const reader = response.body.getReader();
  const stop = new AbortController();
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller) {
      const onAbort = () => {
        // A body that has failed or ended already has nothing left to cancel.
        reader.cancel(signal.reason).catch(() => {});
        controller.error(signal.reason);
      };
      if (signal.aborted) onAbort();
      else signal.addEventListener("abort", onAbort, { once: true, signal: stop.signal });
    },
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        controller.close();
      } catch (thrown) {
        controller.error(thrown);
      }
      stop.abort();
    },
    async cancel(reason) {
      stop.abort();
      await reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
  const { status, statusText, headers } = response;
  return new Response(body, { status, statusText, headers });
}
