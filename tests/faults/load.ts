import { delay } from "./delay.ts";
import type { Answer, CallOptions, Plane } from "./plane.ts";

/** What a client does again until it is answered: the state is not known, or another one is at work. */
const TRY_AGAIN = [409, 500, 502, 503, 504];

/** Longer than any fault of these tests, ms. */
const GIVE_UP_MS = 25_000;

/** Between two tries, ms; less than `Retry-After` asks for, so that a fault meets many requests. */
const RETRY_MS = 50;

type Acknowledged = "running" | "paused" | "deleted";

/**
 * Clients of the api that lead the lives of sandboxes, and remember what was acknowledged. Each request has an idempotency
 * key and is repeated with it until it is answered, at whichever replica.
 */
export class Load {
  /** What each sandbox was last acknowledged to be. A verb that is under way takes it out. */
  readonly acknowledged = new Map<string, Acknowledged>();
  /** Answers that no client should get. */
  readonly wrong: string[] = [];
  /** How many requests were acknowledged, and how many answers asked for another try. */
  readonly counts = { acknowledged: 0, unavailable: 0, refused: 0 };
  readonly #stop = new AbortController();
  readonly #clients: Promise<void>[];

  /** Begins. @param clients lives that go on at the same time. */
  constructor(private readonly plane: Plane, clients: number) {
    this.#clients = Array.from({ length: clients }, (_, n) => this.#lead(n));
  }

  /** Every third sandbox of a client is left paused, every third running. */
  async #lead(client: number): Promise<void> {
    for (let life = 0; !this.#stop.signal.aborted; life++) {
      const created = await this.#request(client, "POST", "/v1/sandboxes", 201);
      if (!created) continue;
      const id: string = created.json.sandbox_id;
      this.acknowledged.set(id, "running");
      const path = `/v1/sandboxes/${id}`;
      if (!await this.#change(client, id, "paused", "POST", `${path}/pause`, 200)) continue;
      if ((client + life) % 3 === 0) continue;
      if (!await this.#change(client, id, "running", "POST", `${path}/resume`, 200)) continue;
      if ((client + life) % 3 === 1) continue;
      await this.#change(client, id, "deleted", "DELETE", path, 204);
    }
  }

  async #change(client: number, id: string, state: Acknowledged, method: string, path: string, status: number) {
    // Until it is acknowledged, both the old and the new state are right.
    this.acknowledged.delete(id);
    const answer = await this.#request(client, method, path, status);
    if (answer) this.acknowledged.set(id, state);
    return answer;
  }

  /** @returns undefined when the load was stopped meanwhile, or the answer was wrong. */
  async #request(client: number, method: string, path: string, status: number): Promise<Answer | undefined> {
    let idempotencyKey = crypto.randomUUID();
    const until = performance.now() + GIVE_UP_MS;
    for (let attempt = 0; !this.#stop.signal.aborted; attempt++) {
      const answer = await this.#try(method, path, {
        api: client + attempt,
        idempotencyKey,
        signal: this.#stop.signal,
      });
      if (answer?.status === status) {
        this.counts.acknowledged++;
        return answer;
      }
      // 404: it was deleted by an attempt whose answer was lost.
      if (answer?.status === 404 && method === "DELETE") return { ...answer, status };
      if (performance.now() > until || answer && !TRY_AGAIN.includes(answer.status)) {
        this.wrong.push(`${method} ${path}: ${answer?.status} ${JSON.stringify(answer?.json)}`);
        return undefined;
      }
      if (answer?.json?.code === "internal") this.wrong.push(`${method} ${path}: ${JSON.stringify(answer.json)}`);
      if (answer?.status === 503) this.#countUnavailable(method, path, answer);
      // A failure is the answer of its key for good: who wants it done asks anew.
      if (answer && answer.status !== 503 || attempt % 10 === 9) idempotencyKey = crypto.randomUUID();
      await delay(RETRY_MS);
    }
    return undefined;
  }

  async #try(method: string, path: string, options: CallOptions): Promise<Answer | undefined> {
    try {
      return await this.plane.call(method, path, options);
    } catch (thrown) {
      if (this.#stop.signal.aborted) return undefined;
      this.wrong.push(`${method} ${path}: ${thrown} ${(thrown as Error).cause}`);
      return undefined;
    }
  }

  #countUnavailable(method: string, path: string, { retryAfter, json }: Answer): void {
    this.counts.unavailable++;
    if (retryAfter === null) this.wrong.push(`${method} ${path}: 503 without Retry-After: ${JSON.stringify(json)}`);
  }

  /** Waits until `count` more requests were acknowledged: the system works. */
  async goesOn(count: number): Promise<void> {
    const until = performance.now() + GIVE_UP_MS;
    for (const before = this.counts.acknowledged; this.counts.acknowledged < before + count;) {
      if (performance.now() > until) {
        throw new Error(`stuck: ${JSON.stringify(this.counts)}\n${this.wrong.slice(0, 5).join("\n")}`);
      }
      await delay(20);
    }
  }

  /** All clients hang up in the middle of what they do. */
  async abandon(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#clients);
  }
}
