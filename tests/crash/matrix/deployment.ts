import { join } from "@std/path";
import { type Database, DEFAULT_TEAM_ID } from "@torpor/db";
import { HostAgentService } from "@torpor/proto/hostagent";
import { ReconcilerService } from "@torpor/proto/reconciler";
import { type AddressFetch, openAddressFetch, openClient, parseAddress, type ServiceClient } from "@torpor/rpc";
import { makeTestHome, testInstallation } from "@torpor/testing/hostagent";
import { openTestDatabase } from "@torpor/testing/postgres";
import { CrashFiles, type ServiceName, SERVICES } from "./crash_point.ts";
import { SupervisedService } from "./supervised_service.ts";

/** Of all services, and so the key of an administrator, who acts for the default team. */
const TOKEN = "crash-test-token";

/** Between two passes, and how long what may be in flight is left alone, ms. */
export const PERIOD_MS = 1_000;

/** The deadline of a call to the api, ms: longer than any boot here. */
const CALL_TIMEOUT_MS = 120_000;

/** An answer of the api. */
export interface Answer {
  status: number;
  // deno-lint-ignore no-explicit-any
  json: any;
}

/** All services as processes of their own, each started again when it dies, with a real database and real VMs. */
export class Deployment implements AsyncDisposable {
  readonly team = DEFAULT_TEAM_ID;

  private constructor(
    private readonly stack: AsyncDisposableStack,
    private readonly services: Record<ServiceName, SupervisedService>,
    readonly directory: string,
    readonly crash: CrashFiles,
    readonly database: Database,
    readonly host: ServiceClient<typeof HostAgentService>,
    private readonly reconciler: ServiceClient<typeof ReconcilerService>,
    private readonly api: AddressFetch,
  ) {}

  /** Starts everything and waits until it serves. */
  static async start(): Promise<Deployment> {
    await using stack = new AsyncDisposableStack();
    const directory = await makeTestHome();
    stack.defer(() => Deno.remove(directory, { recursive: true }));
    const { database, url } = stack.use(await openTestDatabase());
    const services = startServices(stack, directory, url);
    const { host, reconciler, api } = {
      host: stack.use(openClient(HostAgentService, client(services.hostagent, CALL_TIMEOUT_MS))),
      reconciler: stack.use(openClient(ReconcilerService, client(services.reconciler, 60_000))),
      api: stack.use(openAddressFetch(parseAddress(services.api.address))),
    };
    const crash = new CrashFiles(directory);
    const started = new Deployment(stack.move(), services, directory, crash, database, host, reconciler, api);
    await started.ready();
    await started.#untilHostIsKnown();
    return started;
  }

  /** Waits until all services serve. */
  async ready(): Promise<void> {
    await Promise.all(SERVICES.map((name) => this.services[name].ready()));
  }

  async #untilHostIsKnown(): Promise<void> {
    while ((await this.database.sql`select from hosts`).length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Calls the api. @throws when it goes away meanwhile. */
  async call(method: string, path: string, body?: unknown): Promise<Answer> {
    const json = body === undefined ? undefined : { "content-type": "application/json" };
    const response = await this.api.fetch(`${this.api.baseUrl}${path}`, {
      method,
      headers: { authorization: `Bearer ${TOKEN}`, ...json },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    const text = await response.text();
    return { status: response.status, json: text === "" ? undefined : JSON.parse(text) };
  }

  /** Calls the api and demands success. */
  async demand(method: string, path: string, body?: unknown): Promise<Answer["json"]> {
    const { status, json } = await this.call(method, path, body);
    if (status < 300) return json;
    throw new Error(`${method} ${path} answered ${status}: ${JSON.stringify(json)}`);
  }

  /** Runs a command line as root and returns its trimmed output. */
  async run(sandboxId: string, command: string): Promise<string> {
    const json = await this.demand("POST", `/v1/sandboxes/${sandboxId}/exec`, { cmd: command, user: "root" });
    if (json.exit_code === 0) return json.stdout.trim();
    throw new Error(`exit ${json.exit_code} of ${command}: ${json.stderr}`);
  }

  /** One pass of the reconciler, once it serves. */
  async pass(): Promise<void> {
    for (;;) {
      await this.services.reconciler.ready();
      try {
        await this.reconciler.reconcile({});
        return;
      } catch {
        // It died meanwhile, or does not lead yet: the lock of the dead one ends with its connection.
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
  }
}

function client(service: SupervisedService, timeoutMs: number) {
  return { address: service.address, token: TOKEN, timeoutMs };
}

function startServices(
  stack: AsyncDisposableStack,
  directory: string,
  databaseUrl: string,
): Record<ServiceName, SupervisedService> {
  const { cache, nativeDirectory } = testInstallation();
  const address = (name: ServiceName) => `unix:${join(directory, `${name}.sock`)}`;
  const common = {
    TORPOR_HOME: directory,
    TORPOR_CACHE: cache,
    TORPOR_INTERNAL_TOKEN: TOKEN,
    DATABASE_URL: databaseUrl,
    TORPOR_SCHEDULER_URL: address("scheduler"),
    TORPOR_RECONCILER_URL: address("reconciler"),
    TORPOR_LIB_DIR: nativeDirectory,
    TORPOR_HEARTBEAT_INTERVAL_MS: "500",
    // Passes are asked for one by one, so that they can be counted.
    TORPOR_RECONCILE_INTERVAL_MS: "600000",
    TORPOR_RECONCILE_GRACE_MS: String(PERIOD_MS),
    // A VMM that belongs to nobody yet would be hard to tell from one that was forgotten.
    TORPOR_SPARE_VMM: "off",
    TORPOR_NETWORK: "off",
    TORPOR_COLLECT_INTERVAL_MS: "0",
  };
  const services = SERVICES.map((name) => [name, stack.use(new SupervisedService(name, directory, common))] as const);
  return Object.fromEntries(services) as Record<ServiceName, SupervisedService>;
}
