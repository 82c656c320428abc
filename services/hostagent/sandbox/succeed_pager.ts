import { openFile } from "@torpor/ffi";
import { log } from "@torpor/telemetry";
import { Pager } from "../memory/pager.ts";
import { Sibling } from "../memory/sibling.ts";
import { type HostContext, step } from "./context.ts";
import type { ParentSnapshot, RunningVm } from "./running_vm.ts";

/** One that keeps dying will do so again. */
const MAX_SUCCESSIONS = 5;

/**
 * Starts another pager in the place of one that was killed. Between the two the guest waits at its page faults; nothing is
 * lost, as the userfaultfd lives on in the VMM.
 * @returns false when there can be no successor.
 */
export async function succeedPager(context: HostContext, sandboxId: string, vm: RunningVm): Promise<boolean> {
  const { pager: dead, parent } = vm;
  // One that gave up by itself has said so; also of an adopted one, whose exit status nobody gets to know.
  if (!dead || !parent || dead.stats().state !== "serving" || dead.stats().adoptions >= MAX_SUCCESSIONS) return false;
  try {
    await step(context, sandboxId, "pager.succeed", async () => {
      if (dead instanceof Pager) vm.pager = successor(context, sandboxId, vm, dead, parent);
      else if (dead instanceof Sibling) vm.pager = await context.bases?.succeed(dead, vm.vmm.process) ?? dead;
    });
    return vm.pager !== dead;
  } catch (error) {
    log("error", "pager_not_succeeded", { sandbox_id: sandboxId }, error);
    return false;
  }
}

function successor(
  { layout, nativeDirectory }: HostContext,
  sandboxId: string,
  vm: RunningVm,
  dead: Pager,
  parent: ParentSnapshot,
): Pager {
  using opened = new DisposableStack();
  const read = (path: string) => opened.use(openFile(path, { read: true })).fd;
  return Pager.succeed(dead, vm.vmm.process, {
    sandboxId,
    memoryBytes: vm.memory.sizeBytes,
    // A page that is missing is what the parent says, also when a checkpoint has become the parent meanwhile.
    headerFd: read(layout.snapshot(parent.manifest.snapshot_id).memoryHeader),
    sourceFds: parent.table.sources.map((source) => read(layout.snapshot(source).memoryData)),
    logPath: layout.sandbox(sandboxId).pagerLog,
    controlSocket: layout.sandbox(sandboxId).pagerSocket,
    nativeDirectory,
    jail: vm.jail,
  });
}
