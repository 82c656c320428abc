import { Agent, request as httpsRequest } from "node:https";
import type { ClientRequest, IncomingMessage } from "node:http";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { TorporError } from "@torpor/errors";
import { currentTraceparent } from "@torpor/telemetry";
import type { Address } from "../address.ts";
import { drained, headersOf } from "../node_exchange.ts";
import type { CredentialsSource, KeyPair } from "./credentials.ts";
import { pacedBody } from "./paced_body.ts";
import { dnsNameOf } from "./peer.ts";

/**
 * Connections that nobody uses are closed after this, ms: sooner than a server does it (KEEP_ALIVE_MS), so that no call
 * is sent into a connection that is just being closed.
 */
const IDLE_CONNECTION_MS = 60_000;

/**
 * A fetch that speaks mutual TLS to one address, with the name that the certificate there must have. Deno's own client
 * takes the name to check from the URL, so it cannot tell who answers at an IP address.
 * Certificates that are replaced are used for new connections. Errors are as those of `fetch`: a TypeError when the
 * connection or the handshake fails, the signal's reason after an abort.
 */
export function openHttpsFetch(
  address: Address & { transport: "tls" },
  source: CredentialsSource,
): { fetch: typeof globalThis.fetch } & Disposable {
  if (address.peer === "") {
    throw new TorporError("config_invalid", `the address https://${address.hostname}:${address.port} names no peer`, {
      hint: "write who must answer there behind #, for example #scheduler",
    });
  }
  const resources = new DisposableStack();
  let agent: Agent | undefined;
  const replaceAgent = (next: KeyPair) => {
    // The calls of the one before go on, and its idle connections end by themselves.
    const made = agent = agentOf(next);
    resources.defer(() => made.destroy());
  };
  const open = async (): Promise<Agent> => {
    const credentials = typeof source === "function" ? await source() : source;
    if (!agent) {
      replaceAgent(credentials.current);
      resources.use(credentials.onReplace(replaceAgent));
    }
    return agent!;
  };
  const target = {
    host: address.hostname.replace(/^\[|\]$/g, ""),
    port: address.port,
    servername: dnsNameOf(address.peer),
  };
  return {
    fetch: async (input, init) => {
      // The caller's own signal: that of the request only follows it, and a garbage collection can part the two.
      const signal = init?.signal ?? (input instanceof Request ? input.signal : new AbortController().signal);
      return await send(new Request(input, init), signal, { ...target, agent: await open() });
    },
    [Symbol.dispose]: () => resources.dispose(),
  };
}

/** The TCP connections beneath TLS ones. */
const beneath = new WeakMap<Socket, Socket>();

/** Keeps TCP and TLS apart, so that a body can be stopped: see pacedBody. */
class PacedAgent extends Agent {
  override createConnection(options: TlsTarget): Socket {
    const tcp = connectTcp(options.port, options.host);
    const tls = connectTls({ ...options, socket: tcp });
    tcp.on("error", (error) => tls.destroy(error));
    beneath.set(tls, tcp);
    return tls;
  }
}

type TlsTarget = { host: string; port: number; servername: string };

function agentOf({ certificate, key, authority }: KeyPair): Agent {
  const options = { cert: certificate, key, ca: authority, minVersion: "TLSv1.3" } as const;
  return new PacedAgent({ ...options, keepAlive: true, timeout: IDLE_CONNECTION_MS });
}

type Target = TlsTarget & { agent: Agent };

async function send(request: Request, signal: AbortSignal, target: Target): Promise<Response> {
  signal.throwIfAborted();
  const { pathname, search } = new URL(request.url);
  const headers = Object.fromEntries(request.headers);
  // Peers know each other by their certificates: the internal token is none of a host's business.
  delete headers.authorization;
  const traceparent = currentTraceparent();
  if (traceparent !== "") headers.traceparent = traceparent;
  const outgoing = httpsRequest({ ...target, method: request.method, path: pathname + search, headers });
  const stop = new AbortController();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {});
  const onAbort = () => {
    // The connection of a peer that is cut off does not close when it is told to: nobody waits for that.
    aborted.reject(signal.reason);
    outgoing.destroy();
  };
  signal.addEventListener("abort", onAbort, { signal: stop.signal });
  try {
    const incoming = await Promise.race([exchange(outgoing, request.body), aborted.promise]);
    return answerOf(incoming, signal, stop);
  } catch (thrown) {
    stop.abort();
    throw failureOf(thrown, signal);
  }
}

/** Sends the body and waits for the answer's head, which may come before the body has been sent. */
async function exchange(outgoing: ClientRequest, body: ReadableStream<Uint8Array> | null): Promise<IncomingMessage> {
  const answered = Promise.withResolvers<IncomingMessage>();
  outgoing.on("response", answered.resolve);
  outgoing.on("error", answered.reject);
  outgoing.on("close", () => answered.reject(new Error("the connection was closed before the answer")));
  // A body whose first bytes wait for the answer must not keep the head back.
  if (body) outgoing.flushHeaders();
  sendBody(outgoing, body).catch((thrown) => {
    answered.reject(thrown);
    outgoing.destroy();
  });
  return await answered.promise;
}

async function sendBody(outgoing: ClientRequest, body: ReadableStream<Uint8Array> | null): Promise<void> {
  for await (const chunk of body ?? []) {
    if (outgoing.destroyed) return;
    if (!outgoing.write(chunk)) await drained(outgoing);
  }
  outgoing.end();
}

function answerOf(incoming: IncomingMessage, signal: AbortSignal, stop: AbortController): Response {
  const headers = headersOf(incoming);
  const status = incoming.statusCode!;
  const hasBody = status !== 204 && status !== 304;
  if (!hasBody) incoming.resume();
  const body = hasBody
    ? pacedBody(incoming, beneath.get(incoming.socket), (thrown) => failureOf(thrown, signal), () => {
      stop.abort();
    }, () => {
      // A body that nobody wants must not be sent on.
      incoming.destroy();
    })
    : null;
  return new Response(body, { status, statusText: incoming.statusMessage, headers });
}

function failureOf(thrown: unknown, signal: AbortSignal): unknown {
  return signal.aborted ? signal.reason : new TypeError("the request failed", { cause: thrown });
}
