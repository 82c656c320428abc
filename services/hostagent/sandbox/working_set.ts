import { keepShapeWorkingSet, keepWorkingSet, nextWorkingSet } from "../memory/working_sets.ts";
import type { HostContext } from "./context.ts";
import type { SandboxRecord } from "./record.ts";
import type { RunningVm } from "./running_vm.ts";

/** What a resume of this VM's next snapshot will touch first; undefined for a VM that was booted. */
export function workingSetOf(vm: RunningVm): Uint32Array | undefined {
  return vm.pager && nextWorkingSet(vm.pager.faultOrder(), vm.fetchedAhead);
}

/** Before a VM goes away: lets other resumes of its snapshot, and other guests of its shape, know what it touched. */
export async function rememberWorkingSet(context: HostContext, record: SandboxRecord, vm: RunningVm): Promise<void> {
  const pages = workingSetOf(vm);
  if (!pages || !vm.parent) return;
  const { layout } = context;
  const { snapshot_id, kind, generation, vcpus, memory_mb } = vm.parent.manifest;
  // A sandbox's own generation is replaced or removed now.
  if (kind === "kept") await keepWorkingSet(layout.snapshot(snapshot_id).workingSet, pages, memory_mb);
  if (generation === 1) {
    await keepShapeWorkingSet(layout, { baseImage: record.base_image, vcpus, memoryMb: memory_mb }, pages);
  }
}
