/** A receiver of webhooks for tests: a real HTTP server on loopback. */

/** What arrived. */
export interface Received {
  id: string;
  path: string;
  headers: Headers;
  body: string;
}

type Behaviour = (received: Received, count: number, signal: AbortSignal) => Response | Promise<Response>;

/** Options of {@linkcode Receiver.start}. */
export interface ReceiverOptions {
  /** PEM of a certificate and its key; without it plain HTTP. */
  tls?: { cert: string; key: string };
}

/** Answers as `behaviour` says, and remembers all that arrived. */
export class Receiver implements AsyncDisposable {
  readonly received: Received[] = [];
  #waiting: { count: number; resolve: () => void }[] = [];

  private constructor(
    private readonly server: Deno.HttpServer<Deno.NetAddr>,
    private readonly stop: AbortController,
    readonly port: number,
  ) {}

  /** Starts to listen at a free port. */
  static start(
    behaviour: Behaviour = () => new Response(null, { status: 204 }),
    { tls }: ReceiverOptions = {},
  ): Receiver {
    const stop = new AbortController();
    const onListen = () => {};
    const common = { hostname: "127.0.0.1", port: 0, onListen };
    const handler = async (request: Request): Promise<Response> => {
      const { headers } = request;
      const id = headers.get("webhook-id") ?? "";
      const one = { id, path: new URL(request.url).pathname, headers, body: await request.text() };
      const count = receiver.#note(one);
      return await behaviour(one, count, stop.signal);
    };
    const server: Deno.HttpServer<Deno.NetAddr> = tls
      ? Deno.serve({ ...common, ...tls }, handler)
      : Deno.serve(common, handler);
    const receiver: Receiver = new Receiver(server, stop, server.addr.port);
    return receiver;
  }

  #note(one: Received): number {
    const count = this.received.push(one);
    for (const { resolve } of this.#waiting.filter((waiting) => waiting.count <= count)) resolve();
    return count;
  }

  /** `http://127.0.0.1:port/hook` */
  get url(): string {
    return `http://127.0.0.1:${this.port}/hook`;
  }

  /** Waits until so many requests have arrived since the start. */
  async arrived(count: number): Promise<Received[]> {
    if (this.received.length < count) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push({ count, resolve });
      await promise;
    }
    return this.received;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop.abort();
    await this.server.shutdown();
  }
}

/** Never answers, until the receiver is disposed. */
export const stall: Behaviour = async (_received, _count, signal) => {
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve());
  await promise;
  return new Response();
};
