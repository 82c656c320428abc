import { scaledTimeoutMs } from "@torpor/config";
import { type Descriptor, openFile, openUserfaultfdDevice, socketPair } from "@torpor/ffi";
import type { Manifest } from "@torpor/snapshot";
import type { Jail } from "../confinement/mod.ts";
import { startMarks } from "../memory/dirty_pages.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import { Pager } from "../memory/pager.ts";
import { countPager } from "../memory/pager_metrics.ts";
import { PrivateMemory } from "../memory/private_pages.ts";
import { putOverBase } from "../memory/put_over_base.ts";
import { Sibling } from "../memory/sibling.ts";
import type { VmPager } from "../memory/vm_pager.ts";
import { findWorkingSet } from "../memory/working_sets.ts";
import { reportPager } from "../memory/report_pager.ts";
import { type VerifiedSnapshot, verifySnapshot } from "../snapshot/committed.ts";
import { composeDisk } from "../snapshot/disk_image.ts";
import type { SpareVm, VmShape } from "../spare/spare_vm.ts";
import { createEmptyDisk } from "../storage/disk.ts";
import { removeIfPresent } from "../storage/durable_file.ts";
import { takeNetwork, type VmNetwork } from "../network/vm_network.ts";
import type { Vmm } from "../vmm/driver.ts";
import { chooseBase, type ChosenBase } from "./choose_base.ts";
import { type HostContext, step } from "./context.ts";
import { greetGuest, newIdentity } from "./greet_guest.ts";
import { PagerTie } from "./pager_tie.ts";
import type { SandboxRecord } from "./record.ts";
import { recordedPolicy } from "./recorded_network.ts";
import { RunningVm } from "./running_vm.ts";

/** The guest's agent answers within 100 ms of the start of its vCPUs (measured with TCG); this is for a loaded host. */
const RESUME_TIMEOUT_MS = scaledTimeoutMs(60_000);

/** A resumed VM and how far its clock was behind. */
export interface ResumedVm {
  vm: RunningVm;
  clockBehindMs: number;
}

/**
 * Restores a sandbox's VM from its snapshot. Guest memory is not read: pages come when the guest touches them. On failure
 * everything acquired is released in reverse and the snapshot is as it was.
 * @param onStarted records the processes before the guest runs.
 * @throws TorporError `snapshot_corrupt`, `snapshot_missing`, `resume_failed`, `vm_start_failed`, `vm_gone`,
 *   `guest_unreachable`, `deadline_exceeded`; the signal's reason.
 */
export async function resumeVm(
  context: HostContext,
  record: SandboxRecord,
  snapshotId: string,
  onStarted: (vm: RunningVm) => Promise<void>,
  signal: AbortSignal,
): Promise<ResumedVm> {
  const id = record.sandbox_id;
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(RESUME_TIMEOUT_MS)]);
  const snapshot = await step(
    context,
    id,
    "resume.verify",
    () => verifySnapshot(context.layout, snapshotId, context.damage),
  );
  context.driver.requireCompatible(snapshot.manifest.vmm);
  using tie = new PagerTie();
  const { vm, policed } = await tie.explain(restore(context, record, snapshot, tie, deadline));
  try {
    await onStarted(vm);
    await policed;
    await vm.jail?.entered();
    return await tie.explain(startGuest(context, id, vm, snapshot.manifest, deadline));
  } catch (error) {
    await vm[Symbol.asyncDispose]();
    throw error;
  }
}

/** Starts a restored VM's vCPUs and waits until its guest knows who and when it is. */
async function startGuest(
  context: HostContext,
  id: string,
  vm: RunningVm,
  { kind }: Manifest,
  signal: AbortSignal,
): Promise<ResumedVm> {
  await step(context, id, "resume.start_vcpus", () => vm.vmm.startVcpus());
  vm.startedAtMs = Date.now();
  const clockBehindMs = await step(context, id, "resume.guest_hello", async (span) => {
    // What goes on from a kept snapshot is not who was there when it was taken.
    const identity = kind === "kept" ? newIdentity(id) : undefined;
    const behindMs = await greetGuest(vm, signal, { identity });
    span.setAttribute("torpor.clock_behind_ms", behindMs);
    return behindMs;
  });
  reportPager("pager.first_faults", vm);
  countPager(vm, "resume");
  return { vm, clockBehindMs };
}

/** A VM that is about to run. */
interface StoppedVm {
  vm: RunningVm;
  /** What it may reach is in effect. */
  policed: Promise<void>;
}

/** Builds the stopped VM: memory, pager, disk and VMM at the same time, then the device state. */
async function restore(
  context: HostContext,
  record: SandboxRecord,
  snapshot: VerifiedSnapshot,
  tie: PagerTie,
  signal: AbortSignal,
): Promise<StoppedVm> {
  const id = record.sandbox_id;
  const { agentSocket } = context.layout.sandbox(id);
  await using resources = new AsyncDisposableStack();
  using base = await chooseBase(context, record, snapshot);
  // A VMM that was started ahead has its own memory mapped already.
  const spare = base ? undefined : await takeSpare(context, record, resources);
  const jail = spare ? spare.jail : resources.use(createJail(context, record));
  const memory = spare?.memory ?? await prepareNew(context, record, snapshot, resources);
  const network = spare?.network ?? resources.use(await takeNetwork(context));
  const policed = step(context, id, "resume.network", () => network.apply(recordedPolicy(record)));
  policed.catch(() => {}); // Who starts the vCPUs waits for it.
  const { snapshot_id, vcpus, memory_mb } = snapshot.manifest;
  const shape = { baseImage: record.base_image, vcpus, memoryMb: memory_mb };
  const ahead = context.prefetch
    ? await findWorkingSet(context.layout, base?.snapshotId ?? snapshot_id, shape)
    : undefined;
  // Both end before anything is released: a copy must not go on into a directory that is being cleaned.
  const [filled, started] = await Promise.allSettled([
    copyDisk(context, id, snapshot),
    startProcesses(
      context,
      record,
      { snapshot, memory, jail, network, spare, base, workingSet: ahead?.path },
      resources,
      signal,
    ),
  ]);
  if (filled.status === "rejected") throw filled.reason;
  if (started.status === "rejected") throw started.reason;
  const { vmm, pager } = started.value;
  const shared = pager instanceof Sibling;
  tie.knot(vmm, pager);
  resources.defer(() => tie[Symbol.dispose]());
  if (shared) await putDifference(context, id, vmm, pager, snapshot);
  await step(context, id, "resume.load_device_state", async () => {
    if (!shared) await startMarks(context.tracking, vmm.process.pid);
    using state = openFile(context.layout.snapshot(snapshot.manifest.snapshot_id).state, { read: true });
    await vmm.loadDeviceState(state.fd);
    await vmm.setLink(network.connected);
  });
  const vm = new RunningVm({
    vmm,
    memory: await PrivateMemory.ofSibling(memory, vmm, pager),
    pager,
    jail,
    network,
    parent: snapshot,
    tracking: shared ? "private_pages" : context.tracking,
    accelerator: context.driver.identity.accelerator,
    agentSocket,
  });
  vm.fetchedAhead = ahead?.pages;
  resources.move();
  return { vm, policed };
}

/** Before the VMM uses its memory: what of it is not as in the base, which is nothing for a sandbox that is just spawned. */
async function putDifference(
  context: HostContext,
  id: string,
  vmm: Vmm,
  sibling: Sibling,
  snapshot: VerifiedSnapshot,
): Promise<void> {
  if (sibling.base.snapshotId === snapshot.manifest.snapshot_id) return;
  await step(context, id, "resume.put_difference", async (span) => {
    const pages = await context.copySlots.with(() => putOverBase(context.layout, vmm.process, sibling, snapshot));
    span.setAttribute("torpor.pages", pages);
  });
}

/** Takes a VMM that was started ahead. `resources` owns the result. */
async function takeSpare(
  context: HostContext,
  record: SandboxRecord,
  resources: AsyncDisposableStack,
): Promise<SpareVm | undefined> {
  const spare = await context.spares?.take(vmShape(context, record));
  if (!spare) return undefined;
  const id = record.sandbox_id;
  resources.use(spare);
  await step(context, id, "resume.take_spare", () => spare.handOver(context.layout.sandbox(id)));
  resources.use(spare.jail);
  resources.use(spare.pagerSocket);
  resources.use(spare.memory);
  resources.use(spare.network);
  resources.use(spare.vmm);
  return spare;
}

function createJail({ jails }: HostContext, { vcpus, memory_mb }: SandboxRecord): Jail | undefined {
  return jails?.create({ vcpus, memoryMb: memory_mb });
}

/** Prepares what a new VMM needs and returns its memory, which `resources` owns. */
async function prepareNew(
  context: HostContext,
  record: SandboxRecord,
  snapshot: VerifiedSnapshot,
  resources: AsyncDisposableStack,
): Promise<GuestMemory> {
  const { disk } = context.layout.sandbox(record.sandbox_id);
  const memory = resources.use(GuestMemory.create(record.sandbox_id, record.memory_mb));
  // The VMM opens the disk when it starts, so the file exists at its full size before its content is there.
  await removeIfPresent(disk);
  await createEmptyDisk(disk, snapshot.manifest.files.disk.bytes);
  return memory;
}

/** What a VMM for this sandbox must know when it starts. */
export function vmShape({ images }: HostContext, record: SandboxRecord): VmShape {
  return {
    vcpus: record.vcpus,
    memoryMb: record.memory_mb,
    diskBytes: record.disk_size_mb * 2 ** 20,
    baseImage: images.basePath(record.base_image),
  };
}

async function copyDisk(context: HostContext, id: string, snapshot: VerifiedSnapshot): Promise<void> {
  const to = context.layout.sandbox(id).disk;
  await step(context, id, "resume.disk", async (span) => {
    const copy = await context.copySlots.with(() => composeDisk(context.layout, snapshot.manifest, to));
    span.setAttributes({ "torpor.method": copy.method, "torpor.bytes": copy.bytesCopied });
  });
}

/** What a VM is started from. */
interface StartParts {
  snapshot: VerifiedSnapshot;
  memory: GuestMemory;
  jail: Jail | undefined;
  network: VmNetwork;
  spare: SpareVm | undefined;
  base: ChosenBase | undefined;
  workingSet: string | undefined;
}

/** Starts the pager, and the VMM where none waits, joined by a socket; `resources` owns both. */
async function startProcesses(
  context: HostContext,
  record: SandboxRecord,
  { snapshot, memory, jail, network, spare, base, workingSet }: StartParts,
  resources: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<{ vmm: Vmm; pager: VmPager }> {
  if (spare) {
    const pager = await startPager(context, record, snapshot, spare.pagerSocket, { workingSet, jail }, resources);
    return { vmm: spare.vmm, pager };
  }
  const { layout, driver, tracking } = context;
  const id = record.sandbox_id;
  using opened = new DisposableStack();
  const [pagerEnd, vmmEnd] = socketPair();
  opened.use(pagerEnd);
  opened.use(vmmEnd);
  const pager = base && await joinBase(context, record, base, pagerEnd, workingSet, resources) ||
    await startPager(context, record, snapshot, pagerEnd, { workingSet, jail }, resources);
  const shape = vmShape(context, record);
  const files = { paths: layout.sandbox(id), memoryFd: memory.fd, tapFd: network.tapFd };
  const config = { sandboxId: id, jail, ...files, ...shape };
  const device = opened.use(openUserfaultfdDevice());
  const sharedFile = pager instanceof Sibling ? opened.use(pager.base.openForVmm()) : undefined;
  const armed = !sharedFile && tracking === "pagemap_scan";
  const link = { userfaultfdDeviceFd: device.fd, socketFd: vmmEnd.fd, tracking: armed, baseFd: sharedFile?.fd };
  const vmm = resources.use(await step(context, id, "resume.spawn_vmm", () => driver.restore(config, link, signal)));
  network.handedOver();
  return { vmm, pager };
}

/** Has the pager of the base serve one more, in the place of `startPager`; undefined when it has just ended for good. */
async function joinBase(
  context: HostContext,
  record: SandboxRecord,
  { snapshotId, files }: ChosenBase,
  socket: Descriptor,
  workingSetPath: string | undefined,
  resources: AsyncDisposableStack,
): Promise<VmPager | undefined> {
  const bases = context.bases!;
  return await step(context, record.sandbox_id, "resume.join_base", async (span) => {
    const source = { snapshotId, memoryBytes: record.memory_mb * 2 ** 20, workingSetPath };
    const sibling = files
      ? await bases.join({ ...source, ...files }, socket.fd)
      : await bases.joinRunning(snapshotId, socket.fd);
    if (!sibling) return undefined;
    resources.use(sibling);
    span.setAttribute("torpor.pid", sibling.process.pid);
    socket.close();
    return sibling;
  });
}

/** Starts the pager and closes this agent's copy of its socket: it must see the end of the connection when the VMM is gone. */
async function startPager(
  context: HostContext,
  record: SandboxRecord,
  { manifest, table }: VerifiedSnapshot,
  socket: Descriptor,
  { workingSet, jail }: Pick<StartParts, "workingSet" | "jail">,
  resources: AsyncDisposableStack,
): Promise<VmPager> {
  const { layout, nativeDirectory } = context;
  const id = record.sandbox_id;
  return await step(context, id, "resume.spawn_pager", () => {
    using opened = new DisposableStack();
    const read = (path: string) => opened.use(openFile(path, { read: true })).fd;
    const pager = resources.use(Pager.start({
      sandboxId: id,
      memoryBytes: record.memory_mb * 2 ** 20,
      handshakeFd: socket.fd,
      headerFd: read(layout.snapshot(manifest.snapshot_id).memoryHeader),
      sourceFds: table.sources.map((source) => read(layout.snapshot(source).memoryData)),
      prefetchFd: workingSet === undefined ? undefined : read(workingSet),
      logPath: layout.sandbox(id).pagerLog,
      controlSocket: layout.sandbox(id).pagerSocket,
      nativeDirectory,
      jail,
    }));
    socket.close();
    return pager;
  });
}
