import { LazyControlCredentials } from "@torpor/certificates";
import { openDatabase } from "@torpor/db";
import { HostClients, Lifecycle } from "@torpor/lifecycle";
import { ReconcilerService } from "@torpor/proto/reconciler";
import { SchedulerService } from "@torpor/proto/scheduler";
import { type Address, openClient, type RunningService, serve } from "@torpor/rpc";
import { addConnectServices } from "./connect/services.ts";
import type { Api } from "./handlers/api.ts";
import { HostPool } from "./hosts/host_pool.ts";
import { FOR_EVER, type Lifetimes } from "./inputs/sandbox.ts";
import { AuditLog } from "./audit/audit_log.ts";
import { Admission } from "./keys/admission.ts";
import { Authenticator } from "./keys/authenticate.ts";
import { PORT_DEFAULTS, PortGateway, type PortSettings } from "./ports/mod.ts";
import { createRestApp } from "./rest/app.ts";

/** Configuration of {@linkcode startApi}. */
export interface ApiConfig {
  listen: Address;
  /** TORPOR_INTERNAL_TOKEN: sent to the other services, demanded from exporters of spans, and the administrator's key. */
  token: string;
  databaseUrl: string;
  /** `unix:/path` or `http://host:port`. */
  schedulerUrl: string;
  /** Asked for its status only; undefined: there is none. */
  reconcilerUrl: string | undefined;
  /** How many traces are kept. */
  traceRetention: number;
  /** Seconds until a snapshot is deleted whose request does not say; absent: never. */
  snapshotRetentionSec?: number;
  /** Of sandboxes whose creator does not say; absent: they last until they are deleted. */
  lifetimes?: Lifetimes;
  /** How the ports of sandboxes are reached; absent: {@linkcode PORT_DEFAULTS}. */
  ports?: Partial<PortSettings>;
  /** Webhooks may call receivers that are not public, and without TLS. Default false. */
  allowPrivateWebhooks?: boolean;
}

/**
 * Starts the public API: REST `/v1`, ConnectRPC `torpor.v1`, and the receiver of spans. Disposing it stops to listen,
 * waits for the requests in flight and closes its connections.
 * @throws TorporError `config_invalid`; an address in use.
 */
export async function startApi(config: ApiConfig): Promise<RunningService> {
  await using stack = new AsyncDisposableStack();
  const database = stack.use(openDatabase(config.databaseUrl));
  const { token } = config;
  const { get: credentials } = stack.use(new LazyControlCredentials(database, token, "api"));
  const scheduler = stack.use(openClient(SchedulerService, { address: config.schedulerUrl, token, credentials }));
  const reconciler = config.reconcilerUrl === undefined
    ? undefined
    : stack.use(openClient(ReconcilerService, { address: config.reconcilerUrl, token, credentials }));
  const clients = stack.use(new HostClients(token, credentials));
  const lifecycle = stack.use(
    new Lifecycle({
      database,
      scheduler,
      hosts: (address) => clients.at(address),
      snapshotRetentionSec: config.snapshotRetentionSec,
    }),
  );
  const hosts = stack.use(new HostPool(clients, token, credentials));
  const authenticator = stack.use(new Authenticator(database, token));
  const admission = new Admission(database, authenticator, stack.use(new AuditLog(database)));
  const stopping = new AbortController();
  const lifetimes = config.lifetimes ?? FOR_EVER;
  const webhooks = { allowPrivate: config.allowPrivateWebhooks ?? false, token };
  const api: Api = {
    database,
    lifecycle,
    hosts,
    scheduler,
    reconciler,
    lifetimes,
    webhooks,
    stopping: stopping.signal,
  };
  const receiver = { database, internalToken: token, retention: config.traceRetention };
  const rest = createRestApp({ api, admission, receiver });
  const gateway = new PortGateway(api, { ...PORT_DEFAULTS, ...config.ports });
  const server = stack.use(
    await serve({
      listen: config.listen,
      routes: (router) => addConnectServices(router, api, admission),
      diversion: gateway,
      http: (request, address) => rest.fetch(request, { address }),
      checkReady: () => database.checkReady(),
    }),
  );
  // What may last for ever ends before the listener waits for what is under way.
  stack.use(gateway);
  stack.defer(() => stopping.abort());
  const resources = stack.move();
  return { address: server.address, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}
