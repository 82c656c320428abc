import type { DescService } from "@bufbuild/protobuf";
import type { Database } from "@torpor/db";
import { SchedulerService } from "@torpor/proto/scheduler";
import { type Address, formatAddress, openAddressFetch, openClient, type ServiceClient } from "@torpor/rpc";
import { openTestDatabase } from "@torpor/testing/postgres";
import { createApiKey } from "../../../services/api/keys/ensure_api_key.ts";
import { type ApiConfig, startApi } from "../../../services/api/start.ts";
import { DEFAULT_POLICY, startScheduler } from "../../../services/scheduler/start.ts";
import { FakeHost } from "./fake_host.ts";

const TOKEN = "an internal token";

/** The JSON of an answer, looked into without ceremony. */
// deno-lint-ignore no-explicit-any
export type Json = any;

/** A request of {@linkcode TestApi.call}. */
export interface CallOptions {
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is. */
  body?: BodyInit;
  headers?: Record<string, string>;
  /** Another API key; "": none. */
  key?: string;
}

/** An answer with its body read. */
export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  json: Json;
}

/** The real API with a real database and a real scheduler, in front of a {@linkcode FakeHost}. */
export class TestApi implements AsyncDisposable {
  readonly token = TOKEN;

  private constructor(
    readonly database: Database,
    readonly databaseUrl: string,
    readonly schedulerUrl: string,
    readonly address: Address,
    readonly key: string,
    readonly host: FakeHost,
    private readonly resources: AsyncDisposableStack,
  ) {}

  /** Starts everything in this process. */
  static async start(options: Pick<ApiConfig, "allowPrivateWebhooks"> = {}): Promise<TestApi> {
    await using stack = new AsyncDisposableStack();
    const directory = await Deno.makeTempDir({ prefix: "api-" });
    stack.defer(() => Deno.remove(directory, { recursive: true }));
    const { database, url: databaseUrl } = stack.use(await openTestDatabase());
    const listen = { transport: "unix", path: `${directory}/scheduler.sock` } as const;
    stack.use(
      await startScheduler({ listen, token: TOKEN, databaseUrl, heartbeatIntervalMs: 1000, policy: DEFAULT_POLICY }),
    );
    const host = stack.use(await FakeHost.start(`unix:${directory}/host.sock`, TOKEN));
    const schedulerUrl = formatAddress(listen);
    await register(host, schedulerUrl);
    const { key } = await createApiKey(database, { name: "test" });
    const api = stack.use(
      await startApi({
        listen: { transport: "tcp", hostname: "127.0.0.1", port: 0 },
        token: TOKEN,
        databaseUrl,
        schedulerUrl,
        reconcilerUrl: undefined,
        traceRetention: 100,
        ...options,
      }),
    );
    return new TestApi(database, databaseUrl, schedulerUrl, api.address, key, host, stack.move());
  }

  /** `http://host:port` */
  get url(): string {
    return formatAddress(this.address);
  }

  /** A request whose answer is not read yet. */
  async open(method: string, path: string, options: CallOptions = {}, signal?: AbortSignal): Promise<Response> {
    const headers = new Headers(options.headers);
    const key = options.key ?? this.key;
    if (key !== "" && !headers.has("x-api-key")) headers.set("authorization", `Bearer ${key}`);
    if (options.json !== undefined) headers.set("content-type", "application/json");
    const body = options.json === undefined ? options.body : JSON.stringify(options.json);
    return await this.#http.fetch(`${this.url}${path}`, { method, headers, body, signal });
  }

  /** A request with its whole answer. */
  async call(method: string, path: string, options: CallOptions = {}): Promise<Answer> {
    const response = await this.open(method, path, options);
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.includes("json") && text !== "";
    return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined };
  }

  /** Creates a sandbox and returns its id. */
  async createSandbox(json: unknown = { memory_mb: 128 }): Promise<string> {
    const answer = await this.call("POST", "/v1/sandboxes", { json });
    if (answer.status !== 201) throw new Error(`create answered ${answer.status}: ${answer.text}`);
    return answer.json.sandbox_id;
  }

  /** A ConnectRPC client of one of the public services. */
  client<Service extends DescService>(service: Service, key = this.key): ServiceClient<Service> {
    return openClient(service, { address: this.address, token: key });
  }

  readonly #http = openAddressFetch({ transport: "tcp", hostname: "localhost", port: 0 });

  async [Symbol.asyncDispose](): Promise<void> {
    this.#http[Symbol.dispose]();
    await this.resources.disposeAsync();
  }
}

async function register(host: FakeHost, schedulerUrl: string): Promise<void> {
  using scheduler = openClient(SchedulerService, { address: schedulerUrl, token: TOKEN });
  const capacity = { vcpus: 64, memoryMb: 65_536n, diskMb: 1_048_576n };
  await scheduler.registerHost({ hostId: host.hostId, name: "fake", address: host.address, capacity });
}
