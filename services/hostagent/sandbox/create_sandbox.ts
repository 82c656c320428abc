import { removeIfPresent } from "../storage/durable_file.ts";
import type { HostContext } from "./context.ts";
import { bootVm } from "./boot_vm.ts";
import { hostError } from "./host_error.ts";
import { type OperationRecord, RECORD_SCHEMA, type SandboxRecord } from "./record.ts";
import { Sandbox } from "./sandbox.ts";

/** What a new sandbox is to be; checked before. */
export interface CreateSpec {
  template: string;
  vcpus: number;
  memoryMb: number;
  diskSizeMb: number;
  timeoutSec: number;
  env: Record<string, string>;
}

/** How the manager follows a creation. */
export interface CreateEvents {
  began(sandbox: Sandbox): void;
  failed(sandbox: Sandbox): void;
  running(sandbox: Sandbox): void;
}

/** Creates a sandbox's directory and boots its VM. On failure nothing of it is left. */
export async function createSandbox(
  context: HostContext,
  call: { sandboxId: string; version: number },
  spec: CreateSpec,
  operation: OperationRecord,
  signal: AbortSignal,
  events: CreateEvents,
): Promise<Sandbox> {
  const { layout } = context;
  const image = await context.images.current(spec.template);
  const sandbox = new Sandbox(newRecord(call, spec, image.baseHash, operation));
  const { record } = sandbox;
  events.began(sandbox);
  try {
    await Deno.mkdir(layout.sandbox(sandbox.id).directory, { recursive: true, mode: 0o700 });
    await sandbox.save(layout);
    sandbox.vm = await bootVm(context, record, image, async (vm) => {
      record.vm = vm.record;
      await sandbox.save(layout);
    }, signal);
    sandbox.touch();
    operation.state = "succeeded";
    sandbox.rest("running", "");
    await sandbox.save(layout);
    sandbox.interrupt = undefined;
    events.running(sandbox);
    return sandbox;
  } catch (thrown) {
    await sandbox.vm?.[Symbol.asyncDispose]();
    await removeIfPresent(layout.sandbox(sandbox.id).directory);
    events.failed(sandbox);
    throw hostError(thrown, "vm_start_failed", "the sandbox could not be created");
  }
}

function newRecord(
  call: { sandboxId: string; version: number },
  spec: CreateSpec,
  baseImage: string,
  operation: OperationRecord,
): SandboxRecord {
  return {
    schema: RECORD_SCHEMA,
    revision: 0,
    sandbox_id: call.sandboxId,
    template: spec.template,
    vcpus: spec.vcpus,
    memory_mb: spec.memoryMb,
    disk_size_mb: spec.diskSizeMb,
    timeout_sec: spec.timeoutSec,
    env: spec.env,
    base_image: baseImage,
    created_at_ms: Date.now(),
    last_active_at_ms: Date.now(),
    version: call.version,
    state: "new",
    reason: "",
    operation,
    snapshot_id: null,
    auto_paused: false,
    vm: null,
  };
}
