import { TextLineStream } from "../../../services/cli/tool/text_lines.ts";
import type { Namespace } from "./namespace.ts";
import type { NameAnswers, ServerEvent, ServerSetup } from "./server_protocol.ts";

/** Servers that run in a namespace. */
export class Servers implements AsyncDisposable {
  /** All that has reached them, oldest first. */
  readonly events: ServerEvent[] = [];
  readonly #input: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #read: Promise<void>;
  #changed = Promise.withResolvers<void>();

  private constructor(private readonly child: Deno.ChildProcess) {
    this.#input = child.stdin.getWriter();
    this.#read = this.#readEvents();
  }

  /** Starts servers and waits until they listen. */
  static async start(namespace: Namespace, setup: ServerSetup): Promise<Servers> {
    const program = new URL("./servers_main.ts", import.meta.url).pathname;
    const argv = namespace.inside([Deno.execPath(), "run", "--quiet", "--allow-all", "--no-check", program]);
    const child = new Deno.Command(argv[0]!, {
      args: argv.slice(1),
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const servers = new Servers(child);
    await servers.#send(setup);
    await servers.until(({ kind }) => kind === "ready");
    return servers;
  }

  /** Resolves with the first event since `since` (a length of {@linkcode events}) that fits; waits for it. */
  async until(fits: (event: ServerEvent) => boolean, since = 0): Promise<ServerEvent> {
    for (;;) {
      const found = this.events.slice(since).find(fits);
      if (found) return found;
      await this.#changed.promise;
    }
  }

  /** Sets how a name is answered from now on. */
  async name(name: string, answers: string[] | string[][], ttl = 0): Promise<void> {
    const since = this.events.length;
    const lists = answers.map((answer) => Array.isArray(answer) ? answer : [answer]);
    const sets = Array.isArray(answers[0]) ? lists : [lists.flat()];
    await this.#send({ name, answers: sets, ttl });
    await this.until((event) => event.kind === "names" && event.name === name, since);
  }

  async #send(message: ServerSetup | NameAnswers): Promise<void> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(message)}\n`));
  }

  async #readEvents(): Promise<void> {
    const lines = this.child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    for await (const line of lines) {
      this.events.push(JSON.parse(line) as ServerEvent);
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
    }
    this.#changed.reject(new Error("the servers have ended"));
    this.#changed.promise.catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close();
    await this.child.status;
    await this.#read;
  }
}
