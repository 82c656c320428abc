import { homePaths } from "@torpor/config";
import { migrate, openDatabase } from "@torpor/db";
import { makeTestHome } from "@torpor/testing/hostagent";
import { clusterOf, startCluster, stopCluster } from "../../services/cli/deployment/postgres.ts";

/** A PostgreSQL of one test, as `./torpor up` makes it, which can be stopped: the tests' common one is everybody's. */
export class OwnCluster implements AsyncDisposable {
  private constructor(private readonly stack: AsyncDisposableStack, private readonly home: string) {}

  /** Makes one with the newest schema. */
  static async start(): Promise<OwnCluster> {
    await using stack = new AsyncDisposableStack();
    const home = await makeTestHome();
    stack.defer(() => Deno.remove(home, { recursive: true }));
    // The server runs as another user.
    await Deno.chmod(home, 0o711);
    const cluster = new OwnCluster(stack, home);
    await cluster.#start();
    stack.defer(async () => void await stopCluster(cluster.#paths));
    await using database = openDatabase(cluster.url);
    await migrate(database);
    return new OwnCluster(stack.move(), home);
  }

  get #paths() {
    return homePaths(this.home);
  }

  get url(): string {
    return clusterOf(this.#paths).url;
  }

  async #start(): Promise<void> {
    await startCluster(this.#paths, () => {});
  }

  /**
   * Stops the server and starts it again.
   * @param mode `fast` ends its sessions in order; `immediate` is a crash: the next start recovers.
   */
  async restart(mode: "fast" | "immediate"): Promise<void> {
    await stopCluster(this.#paths, mode);
    await this.#start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
  }
}
