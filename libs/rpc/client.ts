import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createTransport } from "@connectrpc/connect/protocol-connect";
import { type Address, parseAddress } from "./address.ts";
import { withTorporErrors } from "./call_error.ts";
import { openAddressFetch } from "./http_client.ts";
import { MAX_MESSAGE_BYTES } from "./limits.ts";
import type { CredentialsSource } from "./tls/credentials.ts";
import { createCallClient } from "./unary_client.ts";

/** Options of {@linkcode openClient}. */
export interface ClientOptions {
  /** `unix:/path`, `http://host:port` or `https://host:port#peer`, as text or parsed. */
  address: string | Address;
  /** Needed for `https:` addresses. */
  credentials?: CredentialsSource;
  /** Sent as `authorization: Bearer …`, but not over TLS. */
  token?: string;
  /** Deadline of a unary call that names none, milliseconds. Default 10,000. */
  timeoutMs?: number;
}

/** A ConnectRPC client whose calls throw TorporError. Dispose it to close its connections. */
export type ServiceClient<Service extends DescService> = Client<Service> & Disposable;

/**
 * Opens a client for `service`.
 * Errors of its calls: the code that the server sent; `unavailable` when the connection failed (the call may or may not
 * have been carried out); `deadline_exceeded`.
 */
export function openClient<Service extends DescService>(
  service: Service,
  options: ClientOptions,
): ServiceClient<Service> {
  const address = typeof options.address === "string" ? parseAddress(options.address) : options.address;
  const http = openAddressFetch(address, options.credentials);
  const transport = createTransport({
    httpClient: createCallClient(http),
    baseUrl: http.baseUrl,
    useBinaryFormat: true,
    interceptors: [callInterceptor(options)],
    acceptCompression: [],
    sendCompression: null,
    compressMinBytes: 1024,
    readMaxBytes: MAX_MESSAGE_BYTES,
    writeMaxBytes: MAX_MESSAGE_BYTES,
  });
  const client = withTorporErrors(service, createClient(service, transport));
  return Object.assign(client, { [Symbol.dispose]: () => http[Symbol.dispose]() });
}

function callInterceptor(options: ClientOptions): Interceptor {
  return (next) => async (request) => {
    if (options.token) request.header.set("authorization", `Bearer ${options.token}`);
    if (request.stream || request.header.has("connect-timeout-ms")) return await next(request);
    const deadline = AbortSignal.timeout(options.timeoutMs ?? 10_000);
    return await next({ ...request, signal: AbortSignal.any([request.signal, deadline]) });
  };
}
