import { join } from "@std/path";
import { type Database, openDatabase } from "@torpor/db";
import { ReconcilerService } from "@torpor/proto/reconciler";
import { SchedulerService } from "@torpor/proto/scheduler";
import { type AddressFetch, openAddressFetch, openClient, parseAddress, type ServiceClient } from "@torpor/rpc";
import { FakeHost } from "@torpor/testing/fake_host";
import { makeTestHome } from "@torpor/testing/hostagent";
import { SupervisedService } from "../crash/matrix/supervised_service.ts";
import { Heartbeats } from "./heartbeats.ts";

/** Of all services, and so the key of an administrator, who acts for the default team. */
const TOKEN = "fault-test-token";

/** Between two passes of a reconciler, and how long what may be in flight is left alone, ms. */
export const PERIOD_MS = 1_000;

/** More than any test uses, where it is not the point. */
const PLENTY = { vcpus: 1_000, memoryMb: 10_000_000n, diskMb: 10_000_000n };

/** What a {@linkcode Plane} is made of; by default one of each. */
export interface PlaneOptions {
  databaseUrl: string;
  apis?: number;
  schedulers?: number;
  reconcilers?: number;
  hosts?: number;
  capacity?: typeof PLENTY;
  /** Of all services, beside what they need. */
  env?: Record<string, string>;
}

type Replicas = Record<"api" | "scheduler" | "reconciler", SupervisedService[]>;

/** The control plane as processes, several of each, before host agents without VMs that keep the contract. */
export class Plane implements AsyncDisposable {
  private constructor(
    private readonly stack: AsyncDisposableStack,
    private readonly replicas: Replicas,
    readonly database: Database,
    readonly hosts: readonly FakeHost[],
    readonly schedulers: ServiceClient<typeof SchedulerService>[],
    readonly reconcilers: ServiceClient<typeof ReconcilerService>[],
    private readonly apis: AddressFetch[],
  ) {}

  /** Starts everything and waits until it serves and the hosts are known. */
  static async start(options: PlaneOptions): Promise<Plane> {
    await using stack = new AsyncDisposableStack();
    const directory = await makeTestHome();
    stack.defer(() => Deno.remove(directory, { recursive: true }));
    const database = stack.use(openDatabase(options.databaseUrl));
    const hosts: FakeHost[] = [];
    for (let n = 0; n < (options.hosts ?? 1); n++) hosts.push(stack.use(await FakeHost.start(TOKEN)));
    const replicas = await startReplicas(stack, directory, options);
    const target = ({ address }: SupervisedService) => ({ address, token: TOKEN, timeoutMs: 60_000 });
    const schedulers = replicas.scheduler.map((one) => stack.use(openClient(SchedulerService, target(one))));
    const reconcilers = replicas.reconciler.map((one) => stack.use(openClient(ReconcilerService, target(one))));
    const apis = replicas.api.map(({ address }) => stack.use(openAddressFetch(parseAddress(address))));
    await Promise.all(Object.values(replicas).flat().map((one) => one.ready()));
    for (const [n, { hostId, address }] of hosts.entries()) {
      await schedulers[0]!.registerHost({
        ...{ hostId, address, name: `fake-${n + 1}` },
        capacity: options.capacity ?? PLENTY,
      });
    }
    stack.use(new Heartbeats(schedulers, hosts.map(({ hostId }) => hostId)));
    return new Plane(stack.move(), replicas, database, hosts, schedulers, reconcilers, apis);
  }

  /** Calls a replica of the api. @throws when it goes away meanwhile. */
  async call(method: string, path: string, options: CallOptions = {}): Promise<Answer> {
    const api = this.apis[(options.api ?? 0) % this.apis.length]!;
    const response = await api.fetch(`${api.baseUrl}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${options.key ?? TOKEN}`,
        ...(options.idempotencyKey === undefined ? {} : { "idempotency-key": options.idempotencyKey }),
        ...(options.body === undefined ? {} : { "content-type": "application/json" }),
      },
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      signal: options.signal,
    });
    const text = await response.text();
    return {
      status: response.status,
      retryAfter: response.headers.get("retry-after"),
      json: text === "" ? undefined : JSON.parse(text),
    };
  }

  /** Calls the api and demands success. */
  async demand(method: string, path: string, options?: CallOptions): Promise<Answer["json"]> {
    const { status, json } = await this.call(method, path, options);
    if (status < 300) return json;
    throw new Error(`${method} ${path} answered ${status}: ${JSON.stringify(json)}`);
  }

  /** The processes of the services: the same ones for as long as none has died. */
  async pids(): Promise<number[]> {
    return await Promise.all(Object.values(this.replicas).flat().map((one) => one.pid()));
  }

  /** The replica of the reconciler that leads, or undefined while none does. */
  async leader(): Promise<number | undefined> {
    const statuses = await Promise.all(this.reconcilers.map((one) => one.getStatus({})));
    const leading = statuses.flatMap(({ leader }, replica) => leader ? [replica] : []);
    if (leading.length > 1) throw new Error("two reconcilers lead");
    return leading[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
  }
}

/** How the api is called. */
export interface CallOptions {
  /** Which replica. Default: the first. */
  api?: number;
  body?: unknown;
  idempotencyKey?: string;
  /** An API key. Default: the administrator's. */
  key?: string;
  signal?: AbortSignal;
}

/** An answer of the api. */
export interface Answer {
  status: number;
  retryAfter: string | null;
  // deno-lint-ignore no-explicit-any
  json: any;
}

async function startReplicas(
  stack: AsyncDisposableStack,
  directory: string,
  options: PlaneOptions,
): Promise<Replicas> {
  const common = {
    TORPOR_HOME: directory,
    TORPOR_INTERNAL_TOKEN: TOKEN,
    DATABASE_URL: options.databaseUrl,
    TORPOR_HEARTBEAT_INTERVAL_MS: "500",
    TORPOR_RECONCILE_INTERVAL_MS: String(PERIOD_MS),
    TORPOR_RECONCILE_GRACE_MS: String(PERIOD_MS),
    TORPOR_HOST_GRACE_MS: "5000",
    OTEL_DENO: "false",
    ...options.env,
  };
  const start = async (name: keyof Replicas, count = 1, env: Record<string, string> = {}) => {
    const replicas: SupervisedService[] = [];
    for (let n = 1; n <= count; n++) {
      const own = join(directory, `${name}${n}`);
      await Deno.mkdir(own);
      replicas.push(stack.use(new SupervisedService(name, own, { ...common, ...env })));
    }
    return replicas;
  };
  const scheduler = await start("scheduler", options.schedulers);
  const schedulerOf = { TORPOR_SCHEDULER_URL: scheduler[0]!.address };
  const reconciler = await start("reconciler", options.reconcilers, schedulerOf);
  return { scheduler, reconciler, api: await start("api", options.apis, schedulerOf) };
}
