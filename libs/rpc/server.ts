import {
  type ConnectRouter,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import {
  type UniversalHandler,
  type UniversalServerResponse,
  universalServerResponseToFetch,
} from "@connectrpc/connect/protocol";
import { TorporError } from "@torpor/errors";
import { log, nameActiveSpan } from "@torpor/telemetry";
import { type Address, formatAddress } from "./address.ts";
import { bearerToken, tokensEqual } from "./auth.ts";
import { toConnectError } from "./errors.ts";
import { errorResponse } from "./http_error.ts";
import { MAX_MESSAGE_BYTES, MAX_WHOLE_BYTES } from "./limits.ts";
import { type Diversion, serveWithDiversion } from "./node_server.ts";
import { measureCalls } from "./measure_calls.ts";
import type { Credentials } from "./tls/credentials.ts";
import { serveHttps } from "./tls/https_server.ts";
import type { TlsCaller } from "./tls/tls_caller.ts";

const GRACE_MS = 10_000;

/** How a service proves itself on `https:` addresses, and whom it lets in there. */
export interface TlsOptions {
  credentials: Credentials;
  /**
   * Decides about a request by who calls and the path; it throws `unauthenticated` or `permission_denied`. This takes the
   * place of the token.
   */
  admit: (caller: TlsCaller, path: string) => void;
}

/** Who calls over TLS; undefined for callers over other transports, which know the internal token. */
export const TLS_CALLER = createContextKey<TlsCaller | undefined>(undefined);

/** Where the connection of a call comes from: the IP address; "" for a unix socket and for callers over TLS. */
export const REMOTE_ADDRESS = createContextKey<string>("");

/** Options of {@linkcode serve}. */
export interface ServeOptions {
  listen: Address;
  /** Adds the service's ConnectRPC routes. */
  routes: (router: ConnectRouter) => void;
  /** Answers what is no ConnectRPC route, /healthz or /readyz; undefined: 404. The address is as REMOTE_ADDRESS. */
  http?: (request: Request, address: string) => Promise<Response | undefined> | Response | undefined;
  /** Answers requests before all of that, with their connection. Not for `https:`. */
  diversion?: Diversion;
  /** Requests without this bearer token are refused (but /healthz and /readyz); undefined: the service checks itself. */
  token?: string;
  /** Needed when `listen` is an `https:` address. */
  tls?: TlsOptions;
  /** Throws while the service cannot work (database away …). */
  checkReady?: () => Promise<void>;
  /** How long disposing waits for the requests in flight, milliseconds. Default 10,000. */
  graceMs?: number;
  /** Largest ConnectRPC message, bytes. Default {@linkcode MAX_MESSAGE_BYTES}. */
  maxMessageBytes?: number;
}

/**
 * A service that listens. Disposing it ends the listener and waits for the requests in flight, no longer than the grace
 * period: a stream may have no end, and a reader that stalls would hold the service for ever. What is left ends with the
 * process (Deno 2.9.6 cannot cut a connection of a server that has begun to shut down).
 */
export interface RunningService extends AsyncDisposable {
  /** With the port that was chosen when 0 was asked for. */
  address: Address;
}

/** Starts to serve; a unix socket left over from a killed process is replaced. */
export async function serve(options: ServeOptions): Promise<RunningService> {
  const handlers = connectHandlers(options);
  const handle = async (request: Request, address: string, caller?: TlsCaller): Promise<Response> => {
    const path = new URL(request.url).pathname;
    if (path === "/healthz") return new Response("ok\n");
    if (path === "/readyz") return await readiness(options);
    if (caller) options.tls!.admit(caller, path);
    else if (options.token !== undefined && !tokensEqual(bearerToken(request.headers), options.token)) {
      throw new TorporError("unauthenticated", "missing or wrong internal token");
    }
    const handler = handlers.get(path);
    if (handler) return await handler(request, address, caller);
    const response = await options.http?.(request, address);
    return response ?? errorResponse(new TorporError("not_found", `no such path: ${path}`));
  };
  const handleSafely = async (request: Request, address: string, caller?: TlsCaller): Promise<Response> => {
    try {
      return await handle(request, address, caller);
    } catch (thrown) {
      if (!(thrown instanceof TorporError)) log("error", "request_failed", {}, thrown);
      return errorResponse(thrown);
    }
  };
  const server = await listen(options, handleSafely);
  log("info", "listening", { address: formatAddress(server.address) });
  const graceMs = options.graceMs ?? GRACE_MS;
  return { address: server.address, [Symbol.asyncDispose]: () => shutDown(server, graceMs) };
}

async function shutDown(server: Listener, graceMs: number): Promise<void> {
  const waited = Promise.withResolvers<"over">();
  const timer = setTimeout(() => waited.resolve("over"), graceMs);
  const outcome = await Promise.race([server.shutdown(), waited.promise]);
  clearTimeout(timer);
  if (outcome === "over") log("warn", "requests_left", { address: formatAddress(server.address), grace_ms: graceMs });
}

interface Listener {
  address: Address;
  /** Takes no more connections and waits for the requests in flight. */
  shutdown(): Promise<void>;
}

async function listen(
  { listen: address, tls, diversion }: ServeOptions,
  handler: FetchHandler,
): Promise<Listener> {
  const onListen = () => {};
  if (address.transport === "tls") {
    if (!tls) throw new TorporError("config_invalid", "this service does not serve https");
    const server = await serveHttps(address, tls.credentials, (request, caller) => handler(request, "", caller));
    return { address: { ...address, port: server.port }, shutdown: () => server.shutdown() };
  }
  if (diversion) {
    if (address.transport === "unix" && await isStaleSocket(address.path)) await Deno.remove(address.path);
    const server = await serveWithDiversion(address, handler, diversion);
    return {
      address: address.transport === "tcp" ? { ...address, port: server.port } : address,
      shutdown: server.shutdown,
    };
  }
  const answer = (request: Request, { remoteAddr }: Deno.ServeHandlerInfo) =>
    handler(request, "hostname" in remoteAddr ? remoteAddr.hostname : "");
  if (address.transport === "tcp") {
    const server = Deno.serve({ hostname: address.hostname, port: address.port, onListen }, answer);
    return { address: { ...address, port: server.addr.port }, shutdown: () => server.shutdown() };
  }
  // A socket file of a killed process gives AddrInUse. It is ours to remove only when nobody accepts on it.
  if (await isStaleSocket(address.path)) await Deno.remove(address.path);
  const server = Deno.serve({ path: address.path, onListen }, answer);
  return { address, shutdown: () => server.shutdown() };
}

async function isStaleSocket(path: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return false;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    if (error instanceof Deno.errors.ConnectionRefused) return true;
    throw error;
  }
}

type FetchHandler = (request: Request, address: string, caller?: TlsCaller) => Promise<Response>;

function connectHandlers(options: ServeOptions): Map<string, FetchHandler> {
  const limit = options.maxMessageBytes ?? MAX_MESSAGE_BYTES;
  const router = createConnectRouter({
    interceptors: [serverInterceptor, measureCalls],
    readMaxBytes: limit,
    writeMaxBytes: limit,
    acceptCompression: [],
  });
  options.routes(router);
  return new Map(router.handlers.map((handler) => [handler.requestPath, fetchHandler(handler)]));
}

/** The library's own adapter opens the body of every request at once, also of one that is refused before it is read. */
function fetchHandler(handler: UniversalHandler): FetchHandler {
  const unary = handler.method.methodKind === "unary";
  return async (request, address, caller) => {
    const { method, url, headers: header, signal } = request;
    const contextValues = createContextValues().set(TLS_CALLER, caller).set(REMOTE_ADDRESS, address);
    const whole = unary && Number(header.get("content-length") ?? NaN) <= MAX_WHOLE_BYTES;
    const body = whole ? wholeBody(request) : openedWhenRead(request);
    const response = await handler({ httpVersion: "", method, url, header, body, signal, contextValues });
    return unary ? await wholeResponse(response) : universalServerResponseToFetch(response);
  };
}

/** Making streams of messages that are there already takes longer than the rest of a short call. */
async function wholeResponse({ status, header, body }: UniversalServerResponse): Promise<Response> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body ?? []) chunks.push(chunk);
  const bytes = chunks.length === 1 ? chunks[0]! : new Blob(chunks as BlobPart[]);
  return new Response(chunks.length === 0 ? null : bytes as BodyInit, { status, headers: header });
}

async function* wholeBody(request: Request): AsyncGenerator<Uint8Array> {
  const bytes = await request.bytes();
  if (bytes.length > 0) yield bytes;
}

function openedWhenRead(request: Request): AsyncIterable<Uint8Array> {
  let chunks: AsyncIterator<Uint8Array> | undefined;
  const open = () => chunks ??= (request.body ?? new Blob().stream()).values();
  const giveUp = async (): Promise<IteratorResult<Uint8Array>> => {
    await chunks?.return?.();
    return { done: true, value: undefined };
  };
  return { [Symbol.asyncIterator]: () => ({ next: () => open().next(), return: giveUp, throw: giveUp }) };
}

/** Names the span after the method and gives every error its ConnectRPC form. */
const serverInterceptor: Interceptor = (next) => async (request) => {
  nameActiveSpan(`${request.service.typeName}/${request.method.name}`, { "rpc.system": "connect" });
  try {
    const response = await next(request);
    return response.stream ? { ...response, message: withConnectErrors(response.message) } : response;
  } catch (thrown) {
    throw loggedConnectError(thrown);
  }
};

async function* withConnectErrors<T>(messages: AsyncIterable<T>): AsyncIterable<T> {
  try {
    yield* messages;
  } catch (thrown) {
    throw loggedConnectError(thrown);
  }
}

function loggedConnectError(thrown: unknown) {
  // An internal error's cause does not reach the client, so it is written here, once.
  if (!(thrown instanceof TorporError) || thrown.httpStatus >= 500) log("error", "rpc_failed", {}, thrown);
  return toConnectError(thrown);
}

async function readiness(options: ServeOptions): Promise<Response> {
  try {
    await options.checkReady?.();
    return new Response("ready\n");
  } catch (thrown) {
    log("warn", "not_ready", {}, thrown);
    return new Response("not ready\n", { status: 503 });
  }
}
