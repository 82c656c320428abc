import { join } from "@std/path";
import { homePaths } from "@torpor/config";
import { type Database, migrate, openDatabase } from "@torpor/db";
import { ReconcilerService } from "@torpor/proto/reconciler";
import { SchedulerService } from "@torpor/proto/scheduler";
import { openClient, type ServiceClient } from "@torpor/rpc";
import { ensureApiKey } from "../../../services/api/keys/ensure_api_key.ts";
import { type Deployment, prepareDeployment } from "../../../services/cli/deployment/deployment.ts";
import { startCluster, stopCluster } from "../../../services/cli/deployment/postgres.ts";
import { REPOSITORY } from "../../../services/cli/deployment/repository.ts";
import { startService, waitUntilReady } from "../../../services/cli/deployment/service_process.ts";
import { serviceDefinitions, type ServiceName } from "../../../services/cli/deployment/services.ts";
import { endProcess, type ProcessInfo } from "../../../services/cli/process/process_table.ts";
import { hostId, sandboxId } from "./ids.ts";

const START_MS = 60_000;

/** Larger than any benchmark needs, so that only what is measured limits. */
const HOST_CAPACITY = { vcpus: 1_000_000, memoryMb: 1_000_000_000, diskMb: 1_000_000_000 };

/** PostgreSQL and the services of the control plane as processes, in a data directory of their own. */
export class Plane implements AsyncDisposable {
  private constructor(
    private readonly stack: AsyncDisposableStack,
    readonly deployment: Deployment,
    readonly database: Database,
    readonly apiKey: string,
    private readonly started: Map<string, ProcessInfo>,
  ) {}

  /** Starts PostgreSQL with the project's settings and an api key; services are started by {@linkcode start}. */
  static async open(): Promise<Plane> {
    await using stack = new AsyncDisposableStack();
    const home = await Deno.makeTempDir({ dir: "/tmp", prefix: "torpor-" });
    stack.defer(() => Deno.remove(home, { recursive: true }));
    await Deno.chmod(home, 0o711);
    const paths = homePaths(home);
    // Spans cost the services half as much again, and nobody reads them here.
    Deno.env.set("OTEL_DENO", "false");
    const deployment = await prepareDeployment(paths, freePort());
    await startCluster(paths, () => {});
    stack.defer(async () => void await stopCluster(paths));
    const database = stack.use(openDatabase(deployment.databaseUrl));
    await migrate(database);
    const keyFile = join(home, "key");
    await ensureApiKey(database, keyFile);
    const apiKey = (await Deno.readTextFile(keyFile)).trim();
    return new Plane(stack.move(), deployment, database, apiKey, new Map());
  }

  /** Starts a service; `env` beside what `torpor up` would set. */
  async start(name: Exclude<ServiceName, "hostagent">, env: Record<string, string> = {}): Promise<void> {
    const found = serviceDefinitions(this.deployment, "", "").find((one) => one.name === name)!;
    // The permissions of `up` name the socket of one host agent.
    const service = { ...found, permissions: ["--allow-all", "--no-check"], env: { ...found.env, ...env } };
    const process = await startService(this.deployment, service);
    this.started.set(name, process);
    this.stack.defer(async () => void await endProcess(process, 10_000));
    await waitUntilReady(this.deployment, service, process, START_MS);
  }

  /** Starts a process with `hosts` host agents without VMs, registers them, and fills the database as they are filled. */
  async startHosts(hosts: number, sandboxesEach: number): Promise<AsyncDisposable> {
    const { paths, internalToken } = this.deployment;
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--quiet", "--frozen", "--allow-all", "--no-check", "--config", join(REPOSITORY, "deno.json")],
        ...[join(REPOSITORY, "tests/bench/control-plane/noop_hosts.ts"), paths.run, internalToken],
        ...[String(hosts), String(sandboxesEach)],
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const output = child.stdout.getReader();
    if ((await output.read()).done) throw new Error("the host agents of the benchmark did not start");
    await this.registerHosts(hosts);
    await this.fill(hosts, sandboxesEach);
    this.hostsPid = child.pid;
    return {
      [Symbol.asyncDispose]: async () => {
        await child.stdin.close();
        await output.cancel();
        await child.status;
        await this.empty();
      },
    };
  }

  /** Of the process with the host agents. */
  hostsPid = 0;

  /** Writes hosts as if they had registered and were heard for a day to come. */
  async registerHosts(hosts: number, capacity: Partial<typeof HOST_CAPACITY> = {}): Promise<void> {
    const { vcpus, memoryMb, diskMb } = { ...HOST_CAPACITY, ...capacity };
    const numbers = Array.from({ length: hosts }, (_, n) => n);
    await this.database.sql`
      insert into hosts (id, name, address, vcpus, memory_mb, disk_mb, last_heartbeat_at)
      select id, id, 'unix:' || ${this.deployment.paths.run} || '/host-' || number || '.sock', ${vcpus}, ${memoryMb},
        ${diskMb}, now() + interval '1 day'
      from unnest(${numbers.map(hostId)}::text[], ${numbers}::int[]) as given (id, number)`;
    await this.database.sql`analyze hosts`;
  }

  /** Writes `each` sandboxes per host that have been running for an hour. */
  async fill(hosts: number, each: number): Promise<void> {
    for (let host = 0; host < hosts; host++) {
      const ids = Array.from({ length: each }, (_, n) => sandboxId(host, n));
      await this.database.sql`
        insert into sandboxes (id, team_id, state, host_id, template, vcpus, memory_mb, disk_size_mb, timeout_sec,
          accelerator, state_changed_at, created_at)
        select id, 'default', 'running', ${hostId(host)}, 'base', 1, 512, 5120, 0, 'tcg', now() - interval '1 hour',
          now() - interval '1 hour'
        from unnest(${ids}::text[]) as given (id)`;
    }
    await this.database.sql`vacuum analyze`;
  }

  /** Removes all hosts and sandboxes. */
  async empty(): Promise<void> {
    await this.database.sql`truncate sandboxes, operations, reservations, snapshots, hosts, idempotency_keys cascade`;
  }

  scheduler(): ServiceClient<typeof SchedulerService> {
    return openClient(SchedulerService, this.#target("scheduler"));
  }

  reconciler(): ServiceClient<typeof ReconcilerService> {
    return openClient(ReconcilerService, this.#target("reconciler"));
  }

  #target(name: string) {
    const { paths, internalToken } = this.deployment;
    return { address: `unix:${join(paths.run, `${name}.sock`)}`, token: internalToken, timeoutMs: 600_000 };
  }

  /** The process ids of what was started. */
  get pids(): Record<string, number> {
    const postmaster = Deno.readTextFileSync(join(this.deployment.paths.database, "cluster", "postmaster.pid"));
    return {
      ...Object.fromEntries([...this.started].map(([name, { pid }]) => [name, pid])),
      postgresql: Number(postmaster.split("\n")[0]),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
