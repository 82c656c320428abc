import { openUserfaultfdDevice } from "@torpor/ffi";
import { scaledTimeoutMs } from "@torpor/config";
import { GuestMemory } from "../memory/guest_memory.ts";
import { takeNetwork } from "../network/vm_network.ts";
import { createWritableDisk } from "../storage/disk.ts";
import type { Image } from "../storage/images.ts";
import type { Vmm, VmmConfig } from "../vmm/driver.ts";
import { type HostContext, step } from "./context.ts";
import { greetGuest, newIdentity } from "./greet_guest.ts";
import type { SandboxRecord } from "./record.ts";
import { recordedPolicy } from "./recorded_network.ts";
import { RunningVm } from "./running_vm.ts";

/** From the start of the VMM to the first answer of the guest's agent; 3 s measured with TCG on an idle machine. */
const BOOT_TIMEOUT_MS = scaledTimeoutMs(180_000);

/**
 * Boots the VM of a new sandbox and waits until its agent answers. On failure everything acquired is released; the files
 * in the sandbox's directory stay for the caller to remove.
 * @param onStarted records the processes before the guest runs.
 * @throws TorporError `vm_start_failed`, `guest_unreachable`, `deadline_exceeded`, `vm_gone`; the signal's reason.
 */
export async function bootVm(
  context: HostContext,
  record: SandboxRecord,
  image: Image,
  onStarted: (vm: RunningVm) => Promise<void>,
  signal: AbortSignal,
): Promise<RunningVm> {
  const { layout, driver, tracking } = context;
  const id = record.sandbox_id;
  const paths = layout.sandbox(id);
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(BOOT_TIMEOUT_MS)]);
  await using resources = new AsyncDisposableStack();
  const jail = resources.use(context.jails?.create({ vcpus: record.vcpus, memoryMb: record.memory_mb }));
  const network = resources.use(await takeNetwork(context));
  await step(context, id, "create.network", () => network.apply(recordedPolicy(record)));
  await step(context, id, "create.disk", () => createWritableDisk(paths.disk, record.disk_size_mb));
  const memory = resources.use(GuestMemory.create(id, record.memory_mb));
  const config = {
    sandboxId: id,
    paths,
    vcpus: record.vcpus,
    memoryMb: record.memory_mb,
    memoryFd: memory.fd,
    diskBytes: record.disk_size_mb * 2 ** 20,
    baseImage: image.base,
    jail,
    tapFd: network.tapFd,
  };
  const vmm = resources.use(await step(context, id, "create.spawn_vmm", () => boot(context, config, image, deadline)));
  network.handedOver();
  const { accelerator } = driver.identity;
  const vm = new RunningVm({ vmm, memory, jail, network, tracking, accelerator, agentSocket: paths.agentSocket });
  resources.move();
  try {
    await onStarted(vm);
    await jail?.entered();
    await vmm.setLink(network.connected);
    await step(context, id, "create.start_vcpus", () => vmm.startVcpus());
    vm.startedAtMs = Date.now();
    await step(context, id, "create.boot", () => greetGuest(vm, deadline, { identity: newIdentity(id), boots: true }));
    return vm;
  } catch (error) {
    await vm[Symbol.asyncDispose]();
    throw error;
  }
}

async function boot(
  { driver, tracking }: HostContext,
  config: VmmConfig,
  image: Image,
  signal: AbortSignal,
): Promise<Vmm> {
  if (tracking !== "pagemap_scan") return await driver.boot(config, image, signal);
  using device = openUserfaultfdDevice();
  return await driver.boot(config, { ...image, userfaultfdDeviceFd: device.fd }, signal);
}
