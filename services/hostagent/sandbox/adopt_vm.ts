import { adoptProcess } from "@torpor/ffi";
import { log, withSpan } from "@torpor/telemetry";
import { GuestMemory } from "../memory/guest_memory.ts";
import { Pager } from "../memory/pager.ts";
import { skipCounted } from "../memory/pager_metrics.ts";
import { PrivateMemory } from "../memory/private_pages.ts";
import type { VmPager } from "../memory/vm_pager.ts";
import { NO_VM_NETWORK, type VmNetwork } from "../network/vm_network.ts";
import { readParentManifest, readTable } from "../snapshot/committed.ts";
import type { HostContext } from "./context.ts";
import type { PagerRecord, VmRecord } from "./record.ts";
import { recordedPolicy } from "./recorded_network.ts";
import { type ParentSnapshot, RunningVm } from "./running_vm.ts";
import type { Sandbox } from "./sandbox.ts";

/**
 * Takes over the VM of a sandbox that an earlier agent started: the same process by pidfd, start time and command line, its
 * memory through its own descriptor. Its vCPUs run afterwards, unless a fault of its disk has stopped them.
 * @returns undefined when the VM or its pager is gone or does not answer; the VM is then dead.
 */
export async function adoptVm(context: HostContext, sandbox: Sandbox): Promise<RunningVm | undefined> {
  const attributes = { "torpor.sandbox_id": sandbox.id };
  try {
    return await withSpan("sandbox.adopt", attributes, () => adopt(context, sandbox, sandbox.record.vm!));
  } catch (error) {
    log("error", "vm_not_adopted", { sandbox_id: sandbox.id }, error);
    return undefined;
  }
}

async function adopt(context: HostContext, sandbox: Sandbox, vm: VmRecord): Promise<RunningVm | undefined> {
  const { driver, layout } = context;
  const paths = layout.sandbox(sandbox.id);
  const { vmm: { pid, start_time }, command_line_mark: mark } = vm;
  const process = adoptProcess({ pid, startTime: BigInt(start_time), commandLineIncludes: mark });
  if (!process) return undefined;
  await using resources = new AsyncDisposableStack();
  const jail = resources.use(vm.jail ? context.jails?.adopt(vm.jail) : undefined);
  resources.use(process);
  const sizeBytes = sandbox.record.memory_mb * 2 ** 20;
  const pager = vm.pager ? adoptPager(context, vm.pager, sizeBytes) : undefined;
  if (vm.pager && !pager) return undefined;
  if (pager) resources.use(pager);
  const network = resources.use(await adoptNetwork(context, sandbox, vm));
  const memory = resources.use(new GuestMemory(process.duplicateDescriptor(vm.memory_fd), sizeBytes));
  const parentId = vm.parent_id ?? (pager ? sandbox.record.snapshot_id : null);
  const parent = parentId ? await readParent(context, parentId) : undefined;
  const vmm = await driver.adopt(process, paths, mark);
  // Its agent may have died between stopping the vCPUs and committing. A guest that its disk has stopped is minded later.
  if (!vmm.diskFault && !await vmm.isRunning()) await vmm.startVcpus();
  const { tracking, marks_complete: marksComplete, accelerator } = vm;
  const parts = {
    vmm,
    pager,
    jail,
    network,
    parent,
    tracking,
    marksComplete,
    accelerator,
    agentSocket: paths.agentSocket,
  };
  const own = pager ? await PrivateMemory.ofSibling(memory, vmm, pager) : memory;
  const adopted = new RunningVm({ ...parts, memory: own });
  resources.move();
  skipCounted(adopted);
  return adopted;
}

async function adoptNetwork({ networks }: HostContext, { record }: Sandbox, vm: VmRecord): Promise<VmNetwork> {
  return await networks?.adopt(vm.network, recordedPolicy(record)) ?? NO_VM_NETWORK;
}

function adoptPager({ bases }: HostContext, record: PagerRecord, memoryBytes: number): VmPager | undefined {
  return record.base ? bases?.adopt(record, memoryBytes) : Pager.adopt(record);
}

/** What the VM was resumed from; its next pause stores the difference. */
async function readParent({ layout }: HostContext, snapshotId: string): Promise<ParentSnapshot> {
  const manifest = await readParentManifest(layout, snapshotId);
  return { manifest, table: await readTable(layout, manifest) };
}
