import { isId } from "@torpor/ids";
import { log } from "@torpor/telemetry";
import type { Jails } from "../confinement/mod.ts";
import { namesIn, removeIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { runningBases } from "./find_base_process.ts";

/** Between two looks. */
const LOOK_AGAIN_MS = 5_000;
const SOCKET = ".sock";

/** What it looks after. */
export interface LeftBasesHost {
  layout: Layout;
  jails?: Pick<Jails, "removeBase">;
  /** Default: 5 s. */
  lookAgainMs?: number;
}

/**
 * Removes sockets and cgroups of base pagers that agents before this one have started. Those processes end by themselves when nobody
 * needs them any more, and an agent that has not started them, and whose virtual machines do not use them, is not told.
 */
export class LeftBases implements AsyncDisposable {
  readonly #host: LeftBasesHost;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #looking: Promise<void> = Promise.resolve();
  #ended = false;

  private constructor(host: LeftBasesHost) {
    this.#host = host;
  }

  /** Looks once, and again until all have ended. */
  static async open(host: LeftBasesHost): Promise<LeftBases> {
    const names = await namesIn(host.layout.bases);
    const marks = names.filter((name) => name.endsWith(SOCKET)).map((name) => name.slice(0, -SOCKET.length)).filter(
      isId,
    );
    const bases = new LeftBases(host);
    await bases.#look(marks);
    return bases;
  }

  async #look(marks: readonly string[]): Promise<void> {
    const running = this.#running(marks);
    for (const mark of marks) if (!running.has(mark)) await this.#remove(mark);
    if (running.size === 0 || this.#ended) return;
    this.#timer = setTimeout(() => this.#looking = this.#look([...running]), this.#host.lookAgainMs ?? LOOK_AGAIN_MS);
  }

  #running(marks: readonly string[]): Set<string> {
    try {
      return runningBases(marks);
    } catch (error) {
      log("warn", "left_bases_not_looked_for", {}, error);
      return new Set(marks);
    }
  }

  async #remove(mark: string): Promise<void> {
    const { layout, jails } = this.#host;
    try {
      jails?.removeBase(mark);
      await removeIfPresent(layout.baseSocket(mark));
    } catch (error) {
      // The next agent tries again.
      log("warn", "left_base_not_removed", { mark }, error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#timer);
    await this.#looking;
  }
}
