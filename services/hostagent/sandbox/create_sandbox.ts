import { bootVm } from "./boot_vm.ts";
import { bringUpSandbox, type CreateEvents, type NewSandbox } from "./bring_up.ts";
import type { HostContext } from "./context.ts";
import { roomForNew } from "./room.ts";
import type { Sandbox } from "./sandbox.ts";

/** What a sandbox that boots is to be; checked before. */
export interface BootSpec {
  template: string;
  vcpus: number;
  memoryMb: number;
  diskSizeMb: number;
}

/**
 * Creates a sandbox and boots its VM. On failure nothing of it is left.
 * @throws TorporError `template_not_found`, `vm_start_failed`, `no_space`, and as `bootVm`.
 */
export async function createSandbox(
  context: HostContext,
  wanted: NewSandbox,
  spec: BootSpec,
  signal: AbortSignal,
  events: CreateEvents,
): Promise<Sandbox> {
  const image = await context.images.current(spec.template);
  using _room = await roomForNew(context);
  return await bringUpSandbox(
    context,
    wanted,
    { ...spec, baseImage: image.baseHash },
    (record, onStarted) => bootVm(context, record, image, onStarted, signal),
    events,
    "vm_start_failed",
  );
}
