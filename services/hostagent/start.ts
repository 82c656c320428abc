import type { ConnectRouter } from "@connectrpc/connect";
import { nativeFiles, openLibrary } from "@torpor/ffi";
import { HostAgentService } from "@torpor/proto/hostagent";
import { TorporError } from "@torpor/errors";
import { type Address, formatAddress, isControlPeer, parseAddress, serve, type TlsCaller } from "@torpor/rpc";
import { log } from "@torpor/telemetry";
import { DEFAULT_VMM_USER_BASE, type HostAgentConfig } from "./config.ts";
import { execHandlers } from "./exec/mod.ts";
import { dataRoutes, fileHandlers } from "./files/mod.ts";
import { Jails } from "./confinement/mod.ts";
import { hostCapabilities } from "./host/capabilities.ts";
import { HostCredentials } from "./host/host_credentials.ts";
import { hostIdentity } from "./host/identity.ts";
import { machineCapacity } from "./host/machine.ts";
import { type HostFacts, Registration } from "./host/registration.ts";
import { collectionHandlers } from "./rpc/collection_handlers.ts";
import { portRoutes } from "./network/ports/mod.ts";
import { laterHandlers } from "./rpc/later_handlers.ts";
import { lifecycleHandlers } from "./rpc/lifecycle_handlers.ts";
import { snapshotHandlers } from "./rpc/snapshot_handlers.ts";
import { LeftBases } from "./memory/left_bases.ts";
import { SharedBases } from "./memory/shared_bases.ts";
import { sharedBaseSupported } from "./memory/shared_base_support.ts";
import { chooseTracking } from "./memory/tracking/method.ts";
import { openNetworks, type VmNetworks } from "./network/mod.ts";
import type { HostContext } from "./sandbox/context.ts";
import { NO_RECLAIM } from "./sandbox/reclaim_caps.ts";
import { SandboxManager } from "./sandbox/manager.ts";
import { recoverSandboxes } from "./sandbox/recover.ts";
import { Semaphore } from "./sandbox/semaphore.ts";
import { Collector } from "./snapshot/collector.ts";
import type { CompactionLimits } from "./snapshot/compaction_choice.ts";
import { KnownDamage } from "./snapshot/damage.ts";
import { KeptSnapshots } from "./snapshot/kept.ts";
import { SnapshotReferences } from "./snapshot/references.ts";
import { type Metered, StorageMeter } from "./snapshot/storage_meter.ts";
import { readVerificationState } from "./snapshot/verification_state.ts";
import { Verifier } from "./snapshot/verifier.ts";
import { SparePool } from "./spare/spare_pool.ts";
import { DiskSpace } from "./storage/disk_space.ts";
import { Images } from "./storage/images.ts";
import { Layout } from "./storage/layout.ts";
import { hasReflinks } from "./storage/reflink.ts";
import { detectQemu } from "./vmm/qemu/detect.ts";

const AGENT_VERSION = "0.1.0";
/** Memory exports and disk copies at once. */
const COPY_SLOTS = 2;

/** A host agent that serves. Disposing it pauses what runs, so that nothing is lost and no process stays. */
export interface RunningHostAgent extends AsyncDisposable {
  address: Address;
  hostId: string;
  manager: SandboxManager;
  /** Resolves when Terminate has destroyed all sandboxes: the process should end. */
  finished: Promise<void>;
}

/** What tests change of a host. */
export type HostOverrides =
  & Partial<Pick<HostContext, "onStep" | "tracking" | "driver" | "prefetch" | "reclaim">>
  & { compactionLimits?: CompactionLimits };

/**
 * Starts a host agent: takes over what an earlier one left, then serves, then registers.
 * @throws TorporError `config_invalid` when the machine or the installation lacks something.
 */
export async function startHostAgent(
  config: HostAgentConfig,
  overrides: HostOverrides = {},
): Promise<RunningHostAgent> {
  openLibrary(nativeFiles(config.nativeDirectory).library);
  await using resources = new AsyncDisposableStack();
  const networks = resources.use(await openNetworks(config.network, new Layout(config.home, config.cache)));
  const host = { ...await openHost(config, overrides, networks), ...overrides };
  resources.use(host.jails);
  const { verifier } = host;
  const meter: StorageMeter = new StorageMeter(host.layout, () => metered(host, manager));
  const soon = () => (host.collector.soon(), verifier.soon(), meter.soon());
  const reserveBytes = (config.diskReserveMb ?? 0) * 2 ** 20;
  const space = new DiskSpace(host.layout.home, reserveBytes, () => host.collector.soon());
  const context: HostContext = {
    ...host,
    collector: { soon },
    space,
    reflinks: await hasReflinks(host.layout.home),
    spares: config.spareVmm ? new SparePool(host) : undefined,
  };
  const hostId = await hostIdentity(context.layout);
  const credentials = await openCredentials(config, context, hostId);
  if (credentials) resources.use(credentials);
  const { sandboxes, orphans } = await recoverSandboxes(context);
  resources.use(host.bases);
  resources.use(await LeftBases.open(host));
  if (context.spares) resources.use(context.spares);
  const manager = new SandboxManager(context, sandboxes, orphans);
  const collector = resources.use(host.collector);
  collector.start();
  resources.use(verifier).start();
  resources.use(meter).start();
  const terminated = Promise.withResolvers<void>();
  const [files, ports] = [dataRoutes(manager), portRoutes(manager)];
  const http = async (request: Request) => await files(request) ?? await ports(request);
  const service = await serve({
    listen: parseAddress(config.listen),
    token: config.internalToken,
    tls: credentials && { credentials, admit },
    http,
    routes: (router: ConnectRouter) =>
      router.service(HostAgentService, {
        ...lifecycleHandlers(manager, hostId),
        ...execHandlers(manager),
        ...fileHandlers(manager),
        ...snapshotHandlers(manager, context.kept, context.references),
        ...collectionHandlers(manager, context.layout, collector, host),
        ...laterHandlers(),
        terminate: async () => {
          log("warn", "terminating", { host_id: hostId });
          await manager.destroyAll();
          terminated.resolve();
          return {};
        },
      }),
  });
  resources.use(service);
  // Disposed before the service: closing the guests' channels ends the streams that the listener would wait for.
  resources.use(manager);
  if (config.schedulerUrl) {
    const address = config.hostAddress ?? formatAddress(service.address);
    const options = { ...config, schedulerUrl: config.schedulerUrl, token: config.internalToken, credentials };
    resources.use(new Registration(await hostFacts(config, context, hostId, manager, address), options));
  }
  const stack = resources.move();
  return {
    address: service.address,
    hostId,
    manager,
    finished: terminated.promise,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** Everybody for whom something is stored here. */
function metered({ layout, kept }: HostContext, manager: SandboxManager): Metered[] {
  return [
    ...manager.list().map((sandbox): Metered => ({
      snapshots: sandbox.snapshots,
      files: [layout.sandbox(sandbox.id).disk],
      take: (stored) => void (sandbox.stored = stored),
    })),
    ...kept.list().map((snapshot): Metered => ({
      snapshots: [snapshot],
      files: [],
      take: (stored) => void (snapshot.stored = stored),
    })),
  ];
}

/** What lives as long as the agent. */
type OpenedHost = HostContext & {
  collector: Collector;
  bases: SharedBases;
  verifier: Verifier;
  damage: KnownDamage;
};

async function openHost(
  config: HostAgentConfig,
  overrides: HostOverrides,
  networks: VmNetworks,
): Promise<OpenedHost> {
  const layout = new Layout(config.home, config.cache);
  await Deno.mkdir(layout.home, { recursive: true, mode: 0o700 });
  const images = new Images(layout.cache, layout.images);
  const driver = overrides.driver ?? await detectQemu(layout, images, config);
  const tracking = chooseTracking(config.dirtyTracking ?? "auto");
  log("info", "host_ready", { ...driver.identity, tracking });
  const enabled = config.sharedBase !== false && driver.capabilities.sharedBase &&
    await sharedBaseSupported(config.nativeDirectory);
  const jails = await Jails.open({
    home: config.home,
    nativeDirectory: config.nativeDirectory,
    accelerator: driver.identity.accelerator,
    userBase: config.vmmUserBase ?? DEFAULT_VMM_USER_BASE,
  });
  const references = new SnapshotReferences();
  const copySlots = new Semaphore(COPY_SLOTS);
  const verification = await readVerificationState(layout);
  const damage = new KnownDamage(verification.damaged);
  return {
    layout,
    driver,
    images,
    references,
    kept: new KeptSnapshots(layout, references),
    nativeDirectory: config.nativeDirectory,
    tracking,
    copySlots,
    collector: new Collector({
      layout,
      references,
      intervalMs: config.collectIntervalMs ?? 0,
      limits: overrides.compactionLimits,
    }),
    damage,
    verifier: new Verifier({
      layout,
      references,
      damage,
      state: verification,
      intervalMs: config.verifyIntervalMs ?? 0,
      bytesPerSecond: config.verifyBytesPerSecond ?? Infinity,
    }),
    bases: new SharedBases({ layout, nativeDirectory: config.nativeDirectory, enabled, jails }),
    jails,
    prefetch: config.prefetch,
    networks,
    portDrainMs: config.portDrainMs,
    reclaim: config.reclaim ?? NO_RECLAIM,
  };
}

/** Over TLS only the control plane calls a host. */
function admit({ peer }: TlsCaller): void {
  if (isControlPeer(peer)) return;
  if (peer === "") throw new TorporError("unauthenticated", "no valid certificate was shown");
  throw new TorporError("permission_denied", `${peer} may not call a host`);
}

async function openCredentials(
  { listen, schedulerUrl, hostToken }: HostAgentConfig,
  { layout }: HostContext,
  hostId: string,
): Promise<HostCredentials | undefined> {
  const isTls = (address: string | undefined) => address?.startsWith("https:") === true;
  if (!isTls(listen) && !isTls(schedulerUrl)) return undefined;
  if (schedulerUrl && isTls(listen) && isTls(schedulerUrl)) {
    return await HostCredentials.open({ hostId, schedulerUrl, token: hostToken, path: layout.certificate });
  }
  throw new TorporError("config_invalid", "a host speaks TLS with everybody or with nobody", {
    field: "TORPOR_LISTEN",
    hint: "TORPOR_LISTEN and TORPOR_SCHEDULER_URL must both be https: addresses, or neither",
  });
}

async function hostFacts(
  config: HostAgentConfig,
  context: HostContext,
  hostId: string,
  manager: SandboxManager,
  address: string,
): Promise<HostFacts> {
  return {
    hostId,
    name: config.hostName ?? Deno.hostname(),
    address,
    capabilities: await hostCapabilities(context),
    labels: config.hostLabels ?? {},
    agentVersion: AGENT_VERSION,
    capacity: () => machineCapacity(context.layout.home),
    diskFull: async () => await context.space?.isFull() ?? false,
    counts: () => ({
      running: manager.list().filter(({ vm }) => vm).length,
      paused: manager.list().filter(({ status }) => status === "paused").length,
    }),
  };
}
