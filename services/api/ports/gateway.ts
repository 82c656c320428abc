import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Diversion, Tunnel } from "@torpor/rpc";
import type { Api } from "../handlers/api.ts";
import { headersForPort, TOKEN_HEADERS } from "./headers.ts";
import { exchangeHttp } from "./http_exchange.ts";
import { PortReach } from "./reach.ts";
import { Refusal, refusalOf, refuse, refuseUpgrade } from "./refusal.ts";
import { type PortTarget, portTarget } from "./target.ts";
import { exchangeUpgrade } from "./upgrade_exchange.ts";

/** How the ports of sandboxes are reached. */
export interface PortSettings {
  /** Below it are the host names of ports: `<port>-<sandbox id>.<domain>`. */
  domain: string;
  /** A proxy in front says whom it forwards for (`x-forwarded-*`); otherwise what a client says about that is replaced. */
  trustForwarded: boolean;
  /** Requests and connections to the ports of one sandbox at a time. */
  perSandbox: number;
}

export const PORT_DEFAULTS: PortSettings = { domain: "sandbox.localhost", trustForwarded: false, perSandbox: 256 };

/** Requests and connections to all ports at a time. */
const MAX_CONNECTIONS = 10_000;
/** A request, or a connection, on which nothing moves in either direction for so long is over. */
const IDLE_REQUEST_MS = 600_000;
const IDLE_CONNECTION_MS = 3_600_000;

/** Answers requests to the ports of sandboxes, whatever their path: before any route of the API is looked at. */
export class PortGateway implements Diversion, AsyncDisposable {
  readonly #settings: PortSettings;
  readonly #reach: PortReach;
  readonly #open = new Map<string, number>();
  #total = 0;
  readonly #stopping = new AbortController();
  readonly #underWay = new Set<Promise<void>>();

  constructor(api: Api, settings: PortSettings) {
    this.#settings = settings;
    this.#reach = new PortReach(api);
  }

  takes(incoming: IncomingMessage): boolean {
    return portTarget(incoming, this.#settings.domain) !== undefined;
  }

  request(incoming: IncomingMessage, outgoing: ServerResponse): void {
    // Errors of the client's connection are its end, which "close" tells.
    incoming.on("error", () => {});
    outgoing.on("error", () => {});
    this.#note(this.#answer(incoming, outgoing));
  }

  upgrade(incoming: IncomingMessage, socket: Socket, head: Uint8Array): void {
    socket.on("error", () => {});
    this.#note(this.#join(incoming, socket, head));
  }

  /** Breaks off what is under way and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Refusal(503, "the service is stopping", 1));
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
  }

  async #answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const target = portTarget(incoming, this.#settings.domain);
    const gone = new AbortController();
    outgoing.on("close", () => gone.abort(new Refusal(499, "the client has gone")));
    try {
      requireSound(incoming);
      using _place = this.#enter(requireTarget(target));
      using way = await this.#openTunnel(incoming, target as PortTarget, gone.signal, true);
      await exchangeHttp(way.tunnel, incoming, outgoing, this.#headers(incoming), way.touch);
    } catch (thrown) {
      refuse(incoming, outgoing, typeof target === "object" ? target : undefined, refusalOf(thrown));
    }
  }

  async #join(incoming: IncomingMessage, socket: Socket, head: Uint8Array): Promise<void> {
    const target = portTarget(incoming, this.#settings.domain);
    const gone = new AbortController();
    socket.on("close", () => gone.abort(new Refusal(499, "the client has gone")));
    try {
      requireSound(incoming);
      requireBodiless(incoming);
      using _place = this.#enter(requireTarget(target));
      using way = await this.#openTunnel(incoming, target as PortTarget, gone.signal, false);
      await exchangeUpgrade(way.tunnel, incoming, socket, head, this.#headers(incoming), way.touch);
    } catch (thrown) {
      refuseUpgrade(incoming, socket, typeof target === "object" ? target : undefined, refusalOf(thrown));
    }
  }

  #headers(incoming: IncomingMessage): string[] {
    return headersForPort(incoming, this.#settings.trustForwarded);
  }

  /** @param finite as for the host agent's route. The tunnel is closed when it has been idle for too long. */
  async #openTunnel(
    incoming: IncomingMessage,
    target: PortTarget,
    gone: AbortSignal,
    finite: boolean,
  ): Promise<{ tunnel: Tunnel; touch: () => void } & Disposable> {
    const token = TOKEN_HEADERS.map((name) => incoming.headers[name]).find((value) => typeof value === "string") ?? "";
    const signal = AbortSignal.any([gone, this.#stopping.signal]);
    const tunnel = await this.#reach.open(target, { finite, token: String(token), signal });
    const idle = new IdleTimer(finite ? IDLE_REQUEST_MS : IDLE_CONNECTION_MS, () => tunnel.close());
    return {
      tunnel,
      touch: () => idle.touch(),
      [Symbol.dispose]: () => {
        idle[Symbol.dispose]();
        tunnel.close();
      },
    };
  }

  /** Counts a request or connection in, until it is disposed. */
  #enter({ sandboxId }: PortTarget): Disposable {
    const open = this.#open.get(sandboxId) ?? 0;
    if (open >= this.#settings.perSandbox) {
      throw new Refusal(429, `too many connections to this sandbox: ${open} are open`, 1);
    }
    if (this.#total >= MAX_CONNECTIONS) throw new Refusal(503, "too many connections", 1);
    this.#total++;
    this.#open.set(sandboxId, open + 1);
    return {
      [Symbol.dispose]: () => {
        this.#total--;
        const left = this.#open.get(sandboxId)! - 1;
        if (left > 0) this.#open.set(sandboxId, left);
        else this.#open.delete(sandboxId);
      },
    };
  }

  #note(work: Promise<void>): void {
    const noted = work.finally(() => this.#underWay.delete(noted));
    this.#underWay.add(noted);
  }
}

/** Calls back once when nothing was touched for so long. */
class IdleTimer implements Disposable {
  #touchedMs = performance.now();
  #timer: ReturnType<typeof setTimeout>;

  constructor(private readonly idleMs: number, private readonly onIdle: () => void) {
    this.#timer = setTimeout(() => this.#look(), idleMs);
  }

  touch(): void {
    this.#touchedMs = performance.now();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #look(): void {
    const leftMs = this.#touchedMs + this.idleMs - performance.now();
    if (leftMs <= 0) this.onIdle();
    else this.#timer = setTimeout(() => this.#look(), leftMs);
  }
}

function requireTarget(target: PortTarget | string | undefined): PortTarget {
  if (typeof target === "object") return target;
  throw new Refusal(400, target ?? "no port was named");
}

/** What the parser lets through and the sandbox might understand otherwise is not passed on. */
function requireSound({ url, headers }: IncomingMessage): void {
  if (!url?.startsWith("/") && url !== "*") throw new Refusal(400, "the request must name a path");
  const coding = headers["transfer-encoding"];
  if (coding !== undefined && coding.toLowerCase() !== "chunked") throw new Refusal(400, "unknown transfer encoding");
}

function requireBodiless({ method, headers }: IncomingMessage): void {
  const bodiless = headers["transfer-encoding"] === undefined && Number(headers["content-length"] ?? 0) === 0;
  if (method !== "GET" || !bodiless) throw new Refusal(400, "an upgrade is a GET without a body");
}
