import { assert } from "@std/assert";
import { ReconcilerService } from "@torpor/proto/reconciler";
import { formatAddress, openAddressFetch, openClient } from "@torpor/rpc";
import { startTestHostAgent } from "@torpor/testing/hostagent";
import { openTestDatabase } from "@torpor/testing/postgres";
import { createApiKey } from "../../services/api/keys/ensure_api_key.ts";
import { startApi } from "../../services/api/start.ts";
import { startReconciler } from "../../services/reconciler/start.ts";
import { DEFAULT_POLICY, startScheduler } from "../../services/scheduler/start.ts";
import type { Json } from "./api/harness.ts";

/** The one that startTestHostAgent's agents have. */
const TOKEN = "test-internal-token";

/** Everything that `torpor up` starts, in this process, with real virtual machines. */
export async function startAllServices() {
  await using stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir({ prefix: "all-" });
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const { database, url: databaseUrl } = stack.use(await openTestDatabase());
  const socket = (name: string) => ({ transport: "unix", path: `${directory}/${name}.sock` }) as const;
  const common = { token: TOKEN, databaseUrl };
  const listen = socket("scheduler");
  stack.use(await startScheduler({ ...common, listen, heartbeatIntervalMs: 1000, policy: DEFAULT_POLICY }));
  const schedulerUrl = formatAddress(listen);
  const host = stack.use(await startTestHostAgent({ schedulerUrl }));
  const pace = { intervalMs: 600_000, graceMs: 0, hostGraceMs: 60_000, unknownGraceMs: 0 };
  const reconcilerService = stack.use(
    await startReconciler({ ...common, ...pace, listen: socket("reconciler"), schedulerUrl }),
  );
  const reconciler = stack.use(
    openClient(ReconcilerService, { address: reconcilerService.address, token: TOKEN, timeoutMs: 60_000 }),
  );
  const api = stack.use(
    await startApi({
      ...common,
      listen: { transport: "tcp", hostname: "127.0.0.1", port: 0 },
      schedulerUrl,
      reconcilerUrl: formatAddress(reconcilerService.address),
      traceRetention: 10,
    }),
  );
  const { key } = await createApiKey(database, { name: "test" });
  const http = stack.use(openAddressFetch(api.address));
  const resources = stack.move();
  return {
    host,
    /** Of the API, with a key of the default team. */
    url: formatAddress(api.address),
    apiKey: key,
    /** A REST call that must succeed. */
    async call(method: string, path: string, json?: unknown): Promise<Json> {
      const headers = { authorization: `Bearer ${key}`, ...(json ? { "content-type": "application/json" } : {}) };
      const body = json === undefined ? undefined : JSON.stringify(json);
      const response = await http.fetch(`${http.baseUrl}${path}`, { method, headers, body });
      const text = await response.text();
      assert(response.ok, `${method} ${path}: ${response.status} ${text}`);
      return text === "" ? undefined : JSON.parse(text);
    },
    async repairs(): Promise<string[]> {
      return (await reconciler.reconcile({})).repairs.map((one) => `${one.kind} ${one.reason}`);
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
