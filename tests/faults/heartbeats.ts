import { asTorporError } from "@torpor/errors";
import type { SchedulerService } from "@torpor/proto/scheduler";
import type { ServiceClient } from "@torpor/rpc";

const INTERVAL_MS = 500;

/** What host agents send to the scheduler while they live, for hosts that are none. */
export class Heartbeats implements AsyncDisposable {
  readonly #silent = new Set<string>();
  readonly #stop = Promise.withResolvers<void>();
  readonly #ended: Promise<void>;

  constructor(schedulers: readonly ServiceClient<typeof SchedulerService>[], hostIds: readonly string[]) {
    this.#ended = this.#run(schedulers[0]!, hostIds);
  }

  async #run(scheduler: ServiceClient<typeof SchedulerService>, hostIds: readonly string[]): Promise<void> {
    let stopped = false;
    this.#stop.promise.then(() => stopped = true);
    while (!stopped) {
      const heard = hostIds.filter((id) => !this.#silent.has(id));
      await Promise.all(heard.map((hostId) => scheduler.heartbeat({ hostId }).catch(unlessAway)));
      let timer: ReturnType<typeof setTimeout> | undefined;
      const interval = new Promise<void>((resolve) => timer = setTimeout(resolve, INTERVAL_MS));
      await Promise.race([this.#stop.promise, interval]);
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.resolve();
    await this.#ended;
  }
}

/** The database is away: the next one is sent all the same. */
function unlessAway(thrown: unknown): void {
  const { code } = asTorporError(thrown);
  if (code !== "unavailable" && code !== "deadline_exceeded") throw thrown;
}
