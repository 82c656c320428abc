import { SchedulerService } from "@torpor/proto/scheduler";
import { type Address, formatAddress, openClient, type ServiceClient } from "@torpor/rpc";
import { openTestDatabase, type TestDatabase } from "@torpor/testing/postgres";
import { DEFAULT_POLICY, startScheduler } from "../../../services/scheduler/start.ts";

/** The internal token of these tests. */
export const TOKEN = "a token of the control plane";

/** A scheduler that hosts reach over TLS, and the control plane over a unix socket. */
export interface TlsScheduler extends AsyncDisposable {
  test: TestDatabase;
  /** As the control plane. */
  client: ServiceClient<typeof SchedulerService>;
  /** For the control plane. */
  url: string;
  /** For hosts. */
  hostUrl: string;
}

/** Starts one with a database of its own. */
export async function startTlsScheduler(
  options: { certificateLifeMs?: number; hostname?: string } = {},
): Promise<TlsScheduler> {
  await using stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const test = stack.use(await openTestDatabase());
  const hostListen: Address = { transport: "tls", hostname: options.hostname ?? "127.0.0.1", port: 0, peer: "" };
  const service = stack.use(
    await startScheduler({
      listen: { transport: "unix", path: `${directory}/scheduler.sock` },
      hostListen,
      certificateLifeMs: options.certificateLifeMs,
      token: TOKEN,
      databaseUrl: test.url,
      heartbeatIntervalMs: 200,
      policy: DEFAULT_POLICY,
    }),
  );
  const client = stack.use(openClient(SchedulerService, { address: service.address, token: TOKEN }));
  const resources = stack.move();
  return {
    test,
    client,
    url: formatAddress(service.address),
    hostUrl: `${formatAddress(service.hostAddress!)}#scheduler`,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
