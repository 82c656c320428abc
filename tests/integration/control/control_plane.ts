import { join } from "@std/path";
import { type Database, getSandbox, listOperations, type SandboxRow, type SandboxSpec } from "@torpor/db";
import { HostClients, Lifecycle } from "@torpor/lifecycle";
import { ReconcilerService } from "@torpor/proto/reconciler";
import { SchedulerService } from "@torpor/proto/scheduler";
import { openClient, type ServiceClient } from "@torpor/rpc";
import { FakeHost } from "@torpor/testing/fake_host";
import { openTestDatabase, type TestDatabase } from "@torpor/testing/postgres";
import { type ReconcilerConfig, startReconciler } from "../../../services/reconciler/start.ts";
import { DEFAULT_POLICY, startScheduler } from "../../../services/scheduler/start.ts";

/** The team of all test sandboxes. */
export const TEAM = "default";

/** What test sandboxes are made of. */
export const SPEC: SandboxSpec = {
  template: "base",
  vcpus: 1,
  memoryMb: 256,
  diskSizeMb: 64,
  timeoutSec: 0,
  autoDeleteAfterSec: 0,
  ttlSec: 0,
  onTtl: "pause",
  env: { A: "1" },
  metadata: { test: "yes" },
  sourceSnapshotId: null,
  reclaim: null,
};

/** TORPOR_INTERNAL_TOKEN of all test services. */
export const TOKEN = "test-token";

/** What is unknown is not waited for: in these tests nothing is on its way. */
const IMPATIENT = { unknownGraceMs: 0, unownedWaitMs: 300 };

/** A reconciler that works only when told to, and judges at once. */
const AT_ONCE = { intervalMs: 600_000, graceMs: 0, hostGraceMs: 0, unknownGraceMs: 0 };

/** Real PostgreSQL, scheduler and lifecycle over unix sockets, and one fake host. */
export class ControlPlane implements AsyncDisposable {
  private constructor(
    private readonly stack: AsyncDisposableStack,
    private readonly directory: string,
    readonly test: TestDatabase,
    readonly host: FakeHost,
    readonly scheduler: ServiceClient<typeof SchedulerService>,
    readonly hosts: HostClients,
    readonly lifecycle: Lifecycle,
  ) {}

  /** Starts all of it, with the host registered. */
  static async start(capacity = { vcpus: 4, memoryMb: 65_536n, diskMb: 100_000n }): Promise<ControlPlane> {
    await using stack = new AsyncDisposableStack();
    const directory = await Deno.makeTempDir();
    stack.defer(() => Deno.remove(directory, { recursive: true }));
    const test = stack.use(await openTestDatabase());
    const service = stack.use(
      await startScheduler({
        listen: { transport: "unix", path: join(directory, "scheduler.sock") },
        token: TOKEN,
        databaseUrl: test.url,
        heartbeatIntervalMs: 1_000,
        policy: DEFAULT_POLICY,
      }),
    );
    const scheduler = stack.use(openClient(SchedulerService, { address: service.address, token: TOKEN }));
    const host = stack.use(await FakeHost.start(TOKEN));
    const hosts = stack.use(new HostClients(TOKEN));
    const lifecycle = stack.use(
      new Lifecycle({ database: test.database, scheduler, hosts: (address) => hosts.at(address), ...IMPATIENT }),
    );
    await scheduler.registerHost({ hostId: host.hostId, name: "fake", address: host.address, capacity });
    return new ControlPlane(stack.move(), directory, test, host, scheduler, hosts, lifecycle);
  }

  get schedulerUrl(): string {
    return `unix:${join(this.directory, "scheduler.sock")}`;
  }

  get database(): Database {
    return this.test.database;
  }

  /** Starts a reconciler and waits for its first pass; by default it runs further passes only when asked to. */
  async startReconciler(
    config: Partial<ReconcilerConfig> & { awaitFirstPass?: boolean } = {},
  ): Promise<RunningReconciler> {
    const path = join(this.directory, `${crypto.randomUUID().slice(0, 8)}.sock`);
    const service = await startReconciler({
      listen: { transport: "unix", path },
      token: TOKEN,
      databaseUrl: this.test.url,
      schedulerUrl: this.schedulerUrl,
      ...AT_ONCE,
      ...config,
    });
    const client = openClient(ReconcilerService, { address: service.address, token: TOKEN, timeoutMs: 60_000 });
    const reconciler: RunningReconciler = {
      client,
      pass: async () =>
        (await client.reconcile({})).repairs.map((one) => `${one.kind} ${one.fromState}>${one.toState}`),
      [Symbol.asyncDispose]: async () => {
        client[Symbol.dispose]();
        await service[Symbol.asyncDispose]();
      },
    };
    // Queued behind the first pass, so that what a test prepares after this is found by a pass of its own.
    if (config.awaitFirstPass ?? true) await reconciler.pass();
    return reconciler;
  }

  /** A lifecycle as of another process. */
  openLifecycle(): Lifecycle {
    const { database, scheduler, hosts } = this;
    return new Lifecycle({ database, scheduler, hosts: (address) => hosts.at(address), ...IMPATIENT });
  }

  /** Makes the host look silent for an hour. */
  async silenceHost(): Promise<void> {
    await this.database.sql`update hosts set last_heartbeat_at = now() - interval '1 hour'`;
  }

  create(spec: Partial<SandboxSpec> = {}): Promise<SandboxRow> {
    return this.lifecycle.createSandbox(TEAM, { ...SPEC, ...spec });
  }

  async sandbox(id: string): Promise<SandboxRow> {
    return (await getSandbox(this.database.sql, TEAM, id))!;
  }

  /** The journal of a sandbox, oldest first, as "kind state [error code]". */
  async journal(id: string): Promise<string[]> {
    const operations = (await listOperations(this.database.sql, id)).reverse();
    return operations.map(({ kind, state, errorCode }) => `${kind} ${state} ${errorCode}`.trim());
  }

  /** What the fake host has reserved, as the scheduler sees it. */
  async reserved(): Promise<{ vcpus: number; memoryMb: bigint; diskMb: bigint }> {
    const { vcpus, memoryMb, diskMb } = (await this.scheduler.listHosts({})).hosts[0]!.reserved!;
    return { vcpus, memoryMb, diskMb };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
  }
}

/** A reconciler under test. */
export interface RunningReconciler extends AsyncDisposable {
  client: ServiceClient<typeof ReconcilerService>;
  /** Runs one pass and returns its repairs as "kind from>to". */
  pass(): Promise<string[]>;
}
