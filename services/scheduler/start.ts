import type { ServiceImpl } from "@connectrpc/connect";
import {
  type Authority,
  ControlCredentials,
  DEFAULT_CERTIFICATE_LIFE_MS,
  openStoredAuthority,
} from "@torpor/certificates";
import { type Database, openDatabase, type PlacementPolicy } from "@torpor/db";
import { SchedulerService } from "@torpor/proto/scheduler";
import { type Address, type RunningService, serve, TLS_CALLER, type TlsOptions } from "@torpor/rpc";
import { admit, renewingHost, requireSelf } from "./admission.ts";
import { createHostToken, enrollHost, renewHostCertificate } from "./enrolment.ts";
import { changePlacement, describeHost, removeHost } from "./host_admin.ts";
import { heartbeat, listAllHosts, registerHost } from "./hosts.ts";
import { place, release } from "./place.ts";
import { placeGroup } from "./place_group.ts";

/** Configuration of {@linkcode startScheduler}. */
export interface SchedulerConfig {
  listen: Address;
  /** Where hosts come in from other machines: an `https:` address. Undefined: nowhere. */
  hostListen?: Address;
  /** How long certificates of hosts live, ms; a day by default. */
  certificateLifeMs?: number;
  /** TORPOR_INTERNAL_TOKEN; callers must send it. */
  token: string;
  databaseUrl: string;
  /** How often hosts are told to send a heartbeat, ms. */
  heartbeatIntervalMs: number;
  policy: PlacementPolicy;
}

/**
 * Over-commit and lifetime of a reservation when nothing else is configured. vCPUs idle most of the time. Disks are
 * sparse, and most of a paused sandbox's disk was never written. Memory is what the machine dies of, so it is not
 * over-committed.
 */
export const DEFAULT_POLICY: PlacementPolicy = {
  strategy: "spread",
  vcpuOvercommit: 8,
  memoryOvercommit: 1,
  diskOvercommit: 4,
  reservationTtlMs: 60_000,
};

/** A scheduler that serves. */
export interface RunningScheduler extends RunningService {
  /** Where hosts come in over TLS, if they do. */
  hostAddress?: Address;
}

/** Starts the scheduler. It keeps nothing in memory; any number may serve one database. */
export async function startScheduler(config: SchedulerConfig): Promise<RunningScheduler> {
  await using stack = new AsyncDisposableStack();
  const database = stack.use(openDatabase(config.databaseUrl));
  const authority = lazily(() => openStoredAuthority(database, config.token));
  const addresses = [config.listen, ...(config.hostListen ? [config.hostListen] : [])];
  let tls: TlsOptions | undefined;
  if (addresses.some(({ transport }) => transport === "tls")) {
    const life = config.certificateLifeMs ?? DEFAULT_CERTIFICATE_LIFE_MS;
    const credentials = stack.use(await ControlCredentials.open(await authority(), "scheduler", life));
    tls = { credentials, admit };
  }
  const listeners: RunningService[] = [];
  for (const listen of addresses) {
    listeners.push(stack.use(
      await serve({
        listen,
        tls,
        token: config.token,
        checkReady: () => database.checkReady(),
        routes: (router) => router.service(SchedulerService, handlers(database, config, authority)),
      }),
    ));
  }
  const resources = stack.move();
  return {
    address: listeners[0]!.address,
    hostAddress: listeners[1]?.address,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

function handlers(
  database: Database,
  config: SchedulerConfig,
  authority: () => Promise<Authority>,
): Partial<ServiceImpl<typeof SchedulerService>> {
  const lifeMs = config.certificateLifeMs ?? DEFAULT_CERTIFICATE_LIFE_MS;
  return {
    registerHost: async (request, context) => {
      requireSelf(context, request.hostId);
      await registerHost(database, request, context.values.get(TLS_CALLER) !== undefined);
      return { heartbeatIntervalMs: config.heartbeatIntervalMs };
    },
    heartbeat: async (request, context) => {
      requireSelf(context, request.hostId);
      await heartbeat(database, request);
      return {};
    },
    place: (request) => place(database, config.policy, request),
    placeGroup: (request) => placeGroup(database, config.policy, request),
    release: async (request) => {
      await release(database, request);
      return {};
    },
    listHosts: async () => ({ hosts: await listAllHosts(database) }),
    getHost: (request) => describeHost(database, request),
    createHostToken: async (request) => await createHostToken(database, await authority(), request),
    enrollHost: async (request) => await enrollHost(database, await authority(), request, lifeMs),
    renewHostCertificate: async (request, context) =>
      await renewHostCertificate(database, await authority(), renewingHost(context), request, lifeMs),
    setHostPlacement: (request) => changePlacement(database, request),
    removeHost: (request) => removeHost(database, request),
  };
}

/** Most deployments have one host and need no authority: it is made when it is first asked for. */
function lazily<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return async () => {
    made ??= make();
    try {
      return await made;
    } catch (thrown) {
      made = undefined;
      throw thrown;
    }
  };
}
