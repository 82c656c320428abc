import { openDatabase, type PlacementPolicy } from "@torpor/db";
import { SchedulerService } from "@torpor/proto/scheduler";
import { type Address, type RunningService, serve } from "@torpor/rpc";
import { heartbeat, listAllHosts, registerHost } from "./hosts.ts";
import { place, release } from "./place.ts";
import { placeGroup } from "./place_group.ts";

/** Configuration of {@linkcode startScheduler}. */
export interface SchedulerConfig {
  listen: Address;
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
  vcpuOvercommit: 8,
  memoryOvercommit: 1,
  diskOvercommit: 4,
  reservationTtlMs: 60_000,
};

/** Starts the scheduler. It keeps nothing in memory; any number may serve one database. */
export async function startScheduler(config: SchedulerConfig): Promise<RunningService> {
  await using stack = new AsyncDisposableStack();
  const database = stack.use(openDatabase(config.databaseUrl));
  const service = stack.use(
    await serve({
      listen: config.listen,
      token: config.token,
      checkReady: () => database.checkReady(),
      routes: (router) =>
        router.service(SchedulerService, {
          registerHost: async (request) => {
            await registerHost(database, request);
            return { heartbeatIntervalMs: config.heartbeatIntervalMs };
          },
          heartbeat: async (request) => {
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
        }),
    }),
  );
  const resources = stack.move();
  return { address: service.address, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}
