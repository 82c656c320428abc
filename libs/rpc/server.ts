import { type ConnectRouter, createConnectRouter, type Interceptor } from "@connectrpc/connect";
import { type UniversalHandler, universalServerResponseToFetch } from "@connectrpc/connect/protocol";
import { TorporError } from "@torpor/errors";
import { log, nameActiveSpan } from "@torpor/telemetry";
import { type Address, formatAddress } from "./address.ts";
import { bearerToken, tokensEqual } from "./auth.ts";
import { toConnectError } from "./errors.ts";
import { errorResponse } from "./http_error.ts";
import { MAX_MESSAGE_BYTES } from "./limits.ts";
import { measureCalls } from "./measure_calls.ts";

/** Options of {@linkcode serve}. */
export interface ServeOptions {
  listen: Address;
  /** Adds the service's ConnectRPC routes. */
  routes: (router: ConnectRouter) => void;
  /** Answers what is no ConnectRPC route, /healthz or /readyz; undefined: 404. */
  http?: (request: Request) => Promise<Response | undefined> | Response | undefined;
  /** Requests without this bearer token are refused (but /healthz and /readyz); undefined: the service checks itself. */
  token?: string;
  /** Throws while the service cannot work (database away …). */
  checkReady?: () => Promise<void>;
  /** Largest ConnectRPC message, bytes. Default {@linkcode MAX_MESSAGE_BYTES}. */
  maxMessageBytes?: number;
}

/** A service that listens. Disposing it ends the listener after the requests in flight. */
export interface RunningService extends AsyncDisposable {
  /** With the port that was chosen when 0 was asked for. */
  address: Address;
}

/** Starts to serve; a unix socket left over from a killed process is replaced. */
export async function serve(options: ServeOptions): Promise<RunningService> {
  const handlers = connectHandlers(options);
  const handle = async (request: Request): Promise<Response> => {
    const path = new URL(request.url).pathname;
    if (path === "/healthz") return new Response("ok\n");
    if (path === "/readyz") return await readiness(options);
    if (options.token !== undefined && !tokensEqual(bearerToken(request.headers), options.token)) {
      return errorResponse(new TorporError("unauthenticated", "missing or wrong internal token"));
    }
    const handler = handlers.get(path);
    if (handler) return await handler(request);
    const response = await options.http?.(request);
    return response ?? errorResponse(new TorporError("not_found", `no such path: ${path}`));
  };
  const onError = (thrown: unknown) => {
    log("error", "request_failed", {}, thrown);
    return errorResponse(thrown);
  };
  const server = await listen(options.listen, handle, onError);
  const address = boundAddress(options.listen, server);
  log("info", "listening", { address: formatAddress(address) });
  return { address, [Symbol.asyncDispose]: () => server.shutdown() };
}

async function listen(
  address: Address,
  handler: (request: Request) => Promise<Response>,
  onError: (thrown: unknown) => Response,
): Promise<Deno.HttpServer> {
  const onListen = () => {};
  if (address.transport === "tcp") {
    return Deno.serve({ hostname: address.hostname, port: address.port, onListen, onError }, handler);
  }
  // A socket file of a killed process gives AddrInUse. It is ours to remove only when nobody accepts on it.
  if (await isStaleSocket(address.path)) await Deno.remove(address.path);
  return Deno.serve({ path: address.path, onListen, onError }, handler);
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

function boundAddress(asked: Address, server: Deno.HttpServer): Address {
  if (asked.transport === "unix") return asked;
  return { ...asked, port: (server.addr as Deno.NetAddr).port };
}

function connectHandlers(options: ServeOptions): Map<string, (request: Request) => Promise<Response>> {
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
function fetchHandler(handler: UniversalHandler): (request: Request) => Promise<Response> {
  return async (request) => {
    const { method, url, headers: header, signal } = request;
    const response = await handler({ httpVersion: "", method, url, header, body: openedWhenRead(request), signal });
    return universalServerResponseToFetch(response);
  };
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
