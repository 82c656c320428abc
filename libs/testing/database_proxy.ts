/** A unix socket before a PostgreSQL, on which answers are lost when a test wants them to be. */
export class DatabaseProxy implements AsyncDisposable {
  /** As the one that it was made for, but through the proxy. */
  readonly url: string;
  readonly #listener: Deno.UnixListener;
  readonly #accepting: Promise<void>;
  readonly #lines = new Set<Line>();
  #cut: { text: string; done: () => void } | undefined;
  #stalled = Promise.resolve();

  private constructor(databaseUrl: string, private readonly directory: string) {
    const url = new URL(databaseUrl);
    const server = `${url.searchParams.get("host")}/${SOCKET}`;
    url.searchParams.set("host", directory);
    this.url = url.href;
    this.#listener = Deno.listen({ transport: "unix", path: `${directory}/${SOCKET}` });
    this.#accepting = this.#accept(server);
  }

  /** @param databaseUrl of a server that listens on a unix socket. */
  static async start(databaseUrl: string): Promise<DatabaseProxy> {
    return new DatabaseProxy(databaseUrl, await Deno.makeTempDir());
  }

  /**
   * Has the server carry out the next request that contains `text`, and ends the connection instead of passing its answer
   * on. Other connections stay.
   * @returns when that has happened.
   */
  cutAnswerTo(text: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#cut = { text, done: resolve };
    return promise;
  }

  /** From now on no answer comes through, until what this returns is disposed of. */
  stall(): Disposable {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#stalled = promise;
    return { [Symbol.dispose]: resolve };
  }

  async #accept(server: string): Promise<void> {
    for await (const client of this.#listener) {
      const line: Line = { client, server: await Deno.connect({ transport: "unix", path: server }), cut: undefined };
      this.#lines.add(line);
      line.ended = Promise.allSettled([this.#requests(line), this.#answers(line)])
        .then(() => void this.#lines.delete(line));
    }
  }

  async #requests(line: Line): Promise<void> {
    using _ends = { [Symbol.dispose]: () => hangUp(line) };
    for await (const chunk of line.client.readable.values({ preventCancel: true })) {
      if (this.#cut && new TextDecoder("latin1").decode(chunk).includes(this.#cut.text)) {
        line.cut = this.#cut.done;
        this.#cut = undefined;
      }
      await writeAll(line.server, chunk);
    }
  }

  async #answers(line: Line): Promise<void> {
    using _ends = { [Symbol.dispose]: () => hangUp(line) };
    for await (const chunk of line.server.readable.values({ preventCancel: true })) {
      await this.#stalled;
      if (line.cut) return line.cut();
      await writeAll(line.client, chunk);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#accepting;
    const lines = [...this.#lines];
    lines.forEach(hangUp);
    await Promise.all(lines.map(({ ended }) => ended));
    await Deno.remove(this.directory, { recursive: true });
  }
}

const SOCKET = ".s.PGSQL.5432";

interface Line {
  client: Deno.Conn;
  server: Deno.Conn;
  /** What is called instead of passing the next answer on. */
  cut: (() => void) | undefined;
  ended?: Promise<void>;
}

async function writeAll(to: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await to.write(bytes.subarray(at));
}

/** Either end has ended, or is to: so has the other. */
function hangUp({ client, server }: Line): void {
  for (const end of [client, server]) {
    try {
      end.close();
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
  }
}
